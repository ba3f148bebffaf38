// A gateway on gorilla/websocket that behaves as API gateways in the field do: connects over wss and prints a line for each
// thing that holds or does not.
//
// Environment: HUB (https://host:port), CA (PEM file), ADMIN_TOKEN (its text), PING_LIMIT (how long it waits for a ping, by
// default 35s). Lines that begin with `hub:` are requests to run.py.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	name          = "go gorilla/websocket"
	batch         = 40
	handling      = 50 * time.Millisecond
	happenedBound = 1000            // more than can happen between two checks, so that the read loop never waits for one
	patience      = 5 * time.Second // how long a check waits for what should happen
)

func check(what string, found, expected interface{}) {
	if !reflect.DeepEqual(found, expected) {
		fmt.Printf("FAIL  %s: %s: expected %+v, found %+v\n", name, what, expected, found)
		os.Exit(1)
	}
	fmt.Printf("ok    %s: %s\n", name, what)
}

func must(err error) {
	if err != nil {
		_, file, line, _ := runtime.Caller(1)
		fmt.Printf("FAIL  %s: %v (%s:%d)\n", name, err, file[strings.LastIndexByte(file, '/')+1:], line)
		os.Exit(1)
	}
}

// next returns the next thing that happened to the gateway, pings left out.
func (g *Gateway) next(within time.Duration) interface{} {
	late := time.After(within)
	for {
		select {
		case happened := <-g.Happened:
			if _, isPing := happened.(Ping); !isPing {
				return happened
			}
		case <-late:
			return fmt.Sprintf("nothing within %v", within)
		}
	}
}

// brief turns what happened into the text that a check compares. Connected, and a message of `next`, stay as they are.
func brief(happened interface{}) interface{} {
	switch happened := happened.(type) {
	case Refused:
		return fmt.Sprint("refused ", happened.Status)
	case Lost:
		if happened.HungUp {
			return "hung up"
		}
		return fmt.Sprint("closed ", happened.Code, " ", happened.Reason)
	case Event:
		return "event " + happened.Position + " " + string(happened.Payload)
	}
	return happened
}

// pings counts pings for the given time. It ends early, and returns what happened, when that is not a ping.
func (g *Gateway) pings(during time.Duration) (count int, other interface{}) {
	end := time.After(during)
	for {
		select {
		case happened := <-g.Happened:
			if _, isPing := happened.(Ping); !isPing {
				return count, brief(happened)
			}
			count++
		case <-end:
			return count, nil
		}
	}
}

func main() {
	hub := os.Getenv("HUB")
	pingLimit := 35 * time.Second
	if text := os.Getenv("PING_LIMIT"); text != "" {
		var err error
		pingLimit, err = time.ParseDuration(text)
		must(err)
	}
	pem, err := os.ReadFile(os.Getenv("CA"))
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	trusting := &tls.Config{RootCAs: roots}
	transport := &http.Transport{TLSClientConfig: trusting.Clone()}
	platform := &Platform{hub, os.Getenv("ADMIN_TOKEN"), &http.Client{Transport: transport, Timeout: 10 * time.Second}}
	gateway := platform.create("/api/v1/gateways", map[string]string{"name": "go"}).ID
	token := platform.create("/api/v1/gateways/"+gateway+"/tokens", struct{}{})
	gatewayWith := func(key string, config *tls.Config) *Gateway {
		return &Gateway{
			URL:       strings.Replace(hub, "https://", "wss://", 1) + "/api/internal/v1/ws/gateways/connect",
			Key:       key,
			Dialer:    &websocket.Dialer{TLSClientConfig: config, HandshakeTimeout: 10 * time.Second, EnableCompression: true},
			PingLimit: pingLimit,
			Happened:  make(chan interface{}, happenedBound),
		}
	}

	_, refusal := gatewayWith(token.Token, &tls.Config{RootCAs: x509.NewCertPool()}).connect()
	var unknown x509.UnknownAuthorityError
	check("without the hub's CA it does not trust the hub", refusal != nil && errors.As(refusal.Err, &unknown), true)

	stranger := gatewayWith("no-such-key", trusting)
	stranger.Run() // returns, since a 401 is final
	check("an unknown key is refused with 401", brief(stranger.next(patience)), "refused 401")

	g := gatewayWith(token.Token, trusting)
	go g.Run()
	checkEvents(g, platform, gateway)
	checkLosses(g, platform, gateway)
	checkEnds(g, platform, gateway, token.ID)
}

// checkConnected waits for the next connection. With `refusals`, attempts may fail before it unless the status is final: a hub
// that restarts answers 503 or nothing.
func checkConnected(g *Gateway, what, gateway string, refusals bool) {
	happened := g.next(patience)
	for {
		refused, isRefused := happened.(Refused)
		if !isRefused || !refusals || isFinal(refused.Status) {
			break
		}
		happened = g.next(patience)
	}
	expected := Connected{Message{Type: "connection.ack", GatewayID: gateway}, ""}
	if connected, isConnected := happened.(Connected); isConnected {
		expected.Ack.Position = connected.Ack.Position
	}
	check(what, happened, expected)
}

// checkEvents sends events and pings over one connection.
func checkEvents(g *Gateway, platform *Platform, gateway string) {
	checkConnected(g, "the first frame is the ack of its gateway; its offer of permessage-deflate is not accepted", gateway, false)

	g.SetHandling(handling)
	var sent, received []interface{}
	for number, published := range platform.publishBatch(gateway, "interop.event", batch) {
		sent = append(sent, fmt.Sprint("event ", published.Position, " ", number), published.Delivered)
	}
	for len(received) < 2*batch {
		happened := g.next(patience)
		received = append(received, brief(happened), 1)
		if _, isEvent := happened.(Event); !isEvent {
			break
		}
	}
	check(fmt.Sprintf("a batch of %d arrives in order while it handles each for %v", batch, handling), received, sent)

	g.SetHandling(0)
	count, other := g.pings(g.PingLimit)
	check("its read loop answers pings and it stays connected past the timeout", []interface{}{count > 0, other}, []interface{}{true, nil})

	acknowledged := platform.metric("gatecast_deployments_acknowledged_total")
	malformed := platform.metric("gatecast_malformed_messages_total")
	payload := `{"apiId":"a","deploymentId":"d","performedAt":"2026-01-01T00:00:00.123456789Z"}`
	published := platform.publish(gateway, "api.deployed", json.RawMessage(payload))
	check("a deployment arrives byte for byte", brief(g.next(patience)), "event "+published.Position+" "+payload)
	counts := []int{acknowledged, malformed}
	for end := time.Now().Add(patience); counts[0] == acknowledged && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		counts[0] = platform.metric("gatecast_deployments_acknowledged_total")
		counts[1] = platform.metric("gatecast_malformed_messages_total")
	}
	check("its deployment.ack is counted", counts, []int{acknowledged + 1, malformed})
}

// checkLosses ends the connection in several ways; the gateway must be let in again each time.
func checkLosses(g *Gateway, platform *Platform, gateway string) {
	fmt.Println("hub: pause")
	lost := g.next(g.PingLimit + patience)
	fmt.Println("hub: continue")
	check(fmt.Sprintf("it hangs up when it has handled no ping for %v", g.PingLimit), brief(lost), "hung up")
	checkConnected(g, "it is let in at once after it hung up", gateway, false)

	duration := g.PingLimit + 500*time.Millisecond
	g.SetHandling(duration)
	published := platform.publish(gateway, "interop.event", "slow")
	event := g.next(duration + patience)
	g.SetHandling(0)
	check("an event that it handles for longer than the heartbeat allows is handled", brief(event), "event "+published.Position+` "slow"`)
	lost = g.next(patience)
	_, isLost := lost.(Lost)
	check("and the connection is lost", isLost, true)
	checkConnected(g, "it is let in at once after that", gateway, false)

	fmt.Println("hub: restart")
	check("a hub that drains closes it with 1001", brief(g.next(patience)), "closed 1001 server shutdown")
	checkConnected(g, "no refusal during the restart is final, and the new hub lets it in", gateway, true)
	published = platform.publish(gateway, "interop.event", "again")
	check("events arrive again", brief(g.next(patience)), "event "+published.Position+` "again"`)
}

// checkEnds ends the connection in the ways after which the gateway does not come back.
func checkEnds(g *Gateway, platform *Platform, gateway, token string) {
	must(g.Stop())
	check("its close with 1000 is answered with 1000", brief(g.next(patience)), "closed 1000 gateway shutting down")

	again := &Gateway{URL: g.URL, Key: g.Key, Dialer: g.Dialer, PingLimit: g.PingLimit, Happened: g.Happened}
	go again.Run()
	checkConnected(again, "a gateway that was stopped comes back", gateway, false)
	platform.call("DELETE", "/api/v1/gateways/"+gateway+"/tokens/"+token, nil)
	check("revoking its token closes it with 1008", brief(again.next(patience)), "closed 1008 key revoked")
	check("it comes back at once and is refused with 401", brief(again.next(patience)), "refused 401")
}
