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
}

// call returns the body of a 2xx answer. Anything else ends the program, since no later check could hold.
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

func (p *Platform) publish(gateway, kind string, payload interface{}) (published Published) {
	body := encode(map[string]interface{}{"type": kind, "payload": payload})
	must(json.Unmarshal(p.call("POST", "/api/v1/gateways/"+gateway+"/events", body), &published))
	return published
}

// publishBatch publishes numbered events in one call; their payloads are 0, 1, 2, …
func (p *Platform) publishBatch(gateway, kind string, count int) (published []Published) {
	var body bytes.Buffer
	for number := 0; number < count; number++ {
		body.Write(encode(map[string]interface{}{"gatewayId": gateway, "type": kind, "payload": number}))
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

// metric returns the sum of a metric over its labels.
func (p *Platform) metric(name string) (sum int) {
	found := false
	for _, line := range strings.Split(string(p.call("GET", "/metrics", nil)), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 2 && strings.SplitN(fields[0], "{", 2)[0] == name {
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

func encode(value interface{}) []byte {
	text, err := json.Marshal(value)
	must(err)
	return text
}
