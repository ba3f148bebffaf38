// The calls of the platform: registers gateways, publishes events, reads metrics and stats.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Platform calls the hub's API with the admin token.
type Platform struct {
	Hub    string
	Token  string
	Client *http.Client
}

// Published is the hub's answer to one event.
type Published struct {
	Status        int    `json:"status"`
	CorrelationID string `json:"correlationId"`
	Position      string `json:"position"`
	Connections   int    `json:"connections"`
	Delivered     int    `json:"delivered"`
	Failed        int    `json:"failed"`
	// Only for a gateway in the delivery `processed` that is away.
	Waiting bool `json:"waiting"`
	// Only with `until=processed`.
	Processed *bool  `json:"processed"`
	Skipped   string `json:"skipped"`
	Missing   []struct {
		ConnectionID *string `json:"connectionId"`
		Reason       string  `json:"reason"`
	} `json:"missing"`
}

// said returns what an answer says about a wait: "true", "false" or "nothing".
func (p Published) said() string {
	if p.Processed == nil {
		return "nothing"
	}
	return strconv.FormatBool(*p.Processed)
}

// Connection is a row of the hub's stats.
type Connection struct {
	ConnectionID string `json:"connectionId"`
	Delivery     string `json:"delivery"`
	Processing   *struct {
		Position string `json:"position"`
		Since    string `json:"since"`
	} `json:"processing"`
	Processed   string `json:"processed"`
	Unprocessed int    `json:"unprocessed"`
	Missed      int    `json:"missed"`
}

// call returns the body of a 2xx answer. Anything else ends the scenario, since no later check could hold.
func (p *Platform) call(method, path string, body []byte) []byte {
	request, err := http.NewRequest(method, p.Hub+path, bytes.NewReader(body))
	must(err)
	request.Header.Set("Authorization", "Bearer "+p.Token)
	answer, err := p.Client.Do(request)
	must(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(err)
	if answer.StatusCode >= 300 {
		must(fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, text))
	}
	return text
}

func (p *Platform) create(path string, body interface{}) (made struct{ ID, Token string }) {
	must(json.Unmarshal(p.call("POST", path, encode(body)), &made))
	return made
}

func (p *Platform) publish(gateway, kind string, payload interface{}) Published {
	return p.publishTo("/api/v1/gateways/"+gateway+"/events", kind, payload)
}

// publishAndWait publishes an event; the hub answers once it is processed everywhere, or after `wait`.
func (p *Platform) publishAndWait(gateway, kind string, payload interface{}, wait time.Duration) Published {
	path := fmt.Sprintf("/api/v1/gateways/%s/events?wait=%dms&until=processed", gateway, wait.Milliseconds())
	return p.publishTo(path, kind, payload)
}

func (p *Platform) publishTo(path, kind string, payload interface{}) (published Published) {
	body := encode(map[string]interface{}{"type": kind, "payload": payload})
	must(json.Unmarshal(p.call("POST", path, body), &published))
	return published
}

// publishBatch publishes an event for each payload, in one call.
func (p *Platform) publishBatch(gateway, kind string, payloads ...interface{}) (published []Published) {
	var body bytes.Buffer
	for _, payload := range payloads {
		body.Write(encode(map[string]interface{}{"gatewayId": gateway, "type": kind, "payload": payload}))
		body.WriteByte('\n')
	}
	lines := bufio.NewScanner(bytes.NewReader(p.call("POST", "/api/v1/events", body.Bytes())))
	for lines.Scan() {
		var one Published
		must(json.Unmarshal(lines.Bytes(), &one))
		published = append(published, one)
	}
	return published
}

// connections returns the rows of a gateway's connections.
func (p *Platform) connections(gateway string) []Connection {
	var stats struct {
		GatewayConnections struct{ Connections []Connection }
	}
	must(json.Unmarshal(p.call("GET", "/api/internal/v1/stats?gatewayId="+gateway, nil), &stats))
	return stats.GatewayConnections.Connections
}

// metric returns the sum of a metric over its samples, of those that have a label where one is named: `name{label="value"}`.
func (p *Platform) metric(name string) (sum int) {
	found := false
	base, label, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	for _, line := range strings.Split(string(p.call("GET", "/metrics", nil)), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 2 && strings.SplitN(fields[0], "{", 2)[0] == base && strings.Contains(fields[0], label) {
			value, err := strconv.Atoi(fields[1])
			must(err)
			sum, found = sum+value, true
		}
	}
	if !found {
		must(fmt.Errorf("/metrics has no %s", name))
	}
	return sum
}

// numbers returns the payloads 0, 1, 2, …
func numbers(count int) (payloads []interface{}) {
	for number := 0; number < count; number++ {
		payloads = append(payloads, number)
	}
	return payloads
}

func encode(value interface{}) []byte {
	text, err := json.Marshal(value)
	must(err)
	return text
}
