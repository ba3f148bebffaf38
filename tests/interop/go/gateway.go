// A gateway that behaves as API gateways in the field do, and what can happen to it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	ackDeadline   = 5 * time.Second
	writeDeadline = time.Second
	// Gateways in the field wait a second and longer; this is scaled down like the heartbeat.
	retryDelay = 100 * time.Millisecond
)

// errGaveUp ends the read loop, since a pong to a ping that was read already would prove an event that was not handled.
var errGaveUp = errors.New("the handler gave up")

// Gateway behaves as API gateways in the field do. One goroutine reads messages and handles each event before it reads the
// next, so it answers no ping while it handles an event. A second goroutine closes the connection when no ping was handled for
// PingLimit. A lost connection is opened again at once. A failed attempt is repeated after retryDelay, unless its status is
// final. An event with the correlation id of one that it has handled is dropped.
type Gateway struct {
	URL       string
	Key       string
	Dialer    *websocket.Dialer
	PingLimit time.Duration
	// What happened, in order: Connected, Refused, Event, Dropped, Ping or Lost. The read loop waits when it is full.
	Happened chan interface{}
	// Handle handles an event in the read loop. It returns false where it gave up, which it may once hungUp is closed: the gateway
	// has ended the connection by itself. Without it, handling takes as long as SetHandling said.
	Handle func(event Message, hungUp <-chan struct{}) bool

	duration int64           // nanoseconds that handling one event takes; atomic
	handled  map[string]bool // correlation ids; only the read loop uses it
	writing  sync.Mutex
	conn     *websocket.Conn
	stopping bool
}

// Connected: the upgrade succeeded and the first message has come.
type Connected struct {
	Ack        Message
	Extensions string
}

// Refused: an attempt failed. Status is 0 where there was no HTTP answer.
type Refused struct {
	Status int
	Err    error
}

// Event: an event was read and handled.
type Event struct{ Message }

// Dropped: an event was read that the gateway had handled before.
type Dropped struct{ Message }

// Ping: a ping was read and answered.
type Ping struct{}

// Lost: the connection ended. Code is that of the hub's close frame, or 1006 if there was none. HungUp says that the gateway
// ended it because it had handled no ping for PingLimit.
type Lost struct {
	Code   int
	Reason string
	HungUp bool
	Err    error
}

// Message has the members of the hub's messages that the checks look at.
type Message struct {
	Type          string          `json:"type"`
	GatewayID     string          `json:"gatewayId"`
	CorrelationID string          `json:"correlationId"`
	Position      string          `json:"position"`
	Payload       json.RawMessage `json:"payload"`
}

// SetHandling sets how long handling one event takes from now on.
func (g *Gateway) SetHandling(duration time.Duration) {
	atomic.StoreInt64(&g.duration, int64(duration))
}

// Run connects again and again until Stop is called or a refusal is final.
func (g *Gateway) Run() {
	for !g.isStopping() {
		conn, refusal := g.connect()
		if refusal != nil {
			g.Happened <- *refusal
			if isFinal(refusal.Status) {
				return
			}
			time.Sleep(retryDelay)
			continue
		}
		g.Happened <- g.serve(conn)
	}
}

// Stop sends the close frame of a gateway that shuts down. Run returns when the hub has answered it.
func (g *Gateway) Stop() error {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.stopping = true
	frame := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "gateway shutting down")
	return g.conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(writeDeadline))
}

func (g *Gateway) isStopping() bool {
	g.writing.Lock()
	defer g.writing.Unlock()
	return g.stopping
}

// isFinal says whether a gateway in the field gives up and ends its process at this status.
func isFinal(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict,
		http.StatusUnprocessableEntity:
		return true
	}
	return false
}

func (g *Gateway) connect() (*websocket.Conn, *Refused) {
	conn, answer, err := g.Dialer.Dial(g.URL, http.Header{"api-key": {g.Key}})
	if err != nil {
		refusal := &Refused{Err: err}
		if answer != nil {
			refusal.Status = answer.StatusCode
		}
		return nil, refusal
	}
	conn.SetReadDeadline(time.Now().Add(ackDeadline))
	_, text, err := conn.ReadMessage()
	conn.SetReadDeadline(time.Time{})
	var ack Message
	if err == nil {
		err = json.Unmarshal(text, &ack)
	}
	if err != nil {
		conn.Close()
		return nil, &Refused{Err: fmt.Errorf("no connection.ack: %w", err)}
	}
	g.writing.Lock()
	g.conn = conn
	g.writing.Unlock()
	g.Happened <- Connected{ack, answer.Header.Get("Sec-WebSocket-Extensions")}
	return conn, nil
}

// serve reads until the connection is lost.
func (g *Gateway) serve(conn *websocket.Conn) Lost {
	pinged := make(chan struct{}, 1)
	conn.SetPingHandler(func(payload string) error {
		select {
		case pinged <- struct{}{}:
		default:
		}
		err := conn.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(writeDeadline))
		if err == websocket.ErrCloseSent {
			return nil // the hub's close frame is still to come
		}
		if err == nil {
			g.Happened <- Ping{}
		}
		return err
	})
	done, hungUp := make(chan struct{}), make(chan struct{})
	go g.watchPings(conn, pinged, done, hungUp)
	err := g.read(conn, hungUp)
	close(done)
	conn.Close()
	lost := Lost{Code: websocket.CloseAbnormalClosure, Err: err}
	select {
	case <-hungUp:
		lost.HungUp = true
	default:
	}
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		lost.Code, lost.Reason = closed.Code, closed.Text
	}
	return lost
}

// watchPings closes hungUp and then the connection when no ping was handled for PingLimit.
func (g *Gateway) watchPings(conn *websocket.Conn, pinged, done <-chan struct{}, hungUp chan<- struct{}) {
	for {
		limit := time.NewTimer(g.PingLimit)
		select {
		case <-pinged:
			limit.Stop()
		case <-done:
			limit.Stop()
			return
		case <-limit.C:
			close(hungUp)
			conn.Close()
			return
		}
	}
}

func (g *Gateway) read(conn *websocket.Conn, hungUp <-chan struct{}) error {
	for {
		kind, text, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		if kind != websocket.TextMessage {
			continue
		}
		var event Message
		if err := json.Unmarshal(text, &event); err != nil {
			return err
		}
		if err := g.handle(conn, event, hungUp); err != nil {
			return err
		}
	}
}

// handle handles an event that is new, and acknowledges a deployment.
func (g *Gateway) handle(conn *websocket.Conn, event Message, hungUp <-chan struct{}) error {
	if g.handled[event.CorrelationID] {
		g.Happened <- Dropped{event}
		return nil
	}
	if g.Handle == nil {
		time.Sleep(time.Duration(atomic.LoadInt64(&g.duration)))
	} else if !g.Handle(event, hungUp) {
		return errGaveUp
	}
	if g.handled == nil {
		g.handled = map[string]bool{}
	}
	g.handled[event.CorrelationID] = true
	g.Happened <- Event{event}
	if event.Type != "api.deployed" {
		return nil
	}
	var deployment struct {
		APIID        string `json:"apiId"`
		DeploymentID string `json:"deploymentId"`
		PerformedAt  string `json:"performedAt"`
	}
	if err := json.Unmarshal(event.Payload, &deployment); err != nil {
		return err
	}
	g.writing.Lock()
	defer g.writing.Unlock()
	return conn.WriteJSON(map[string]interface{}{"type": "deployment.ack", "payload": map[string]string{
		"deploymentId": deployment.DeploymentID,
		"artifactId":   deployment.APIID,
		"resourceType": "api",
		"action":       "deploy",
		"status":       "success",
		"performedAt":  deployment.PerformedAt,
	}})
}
