// The checks of a gateway in the delivery `written`: connections, events, pings, losses, ends.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	batch    = 40
	handling = 50 * time.Millisecond
)

// checkWritten checks one gateway that keeps its connection, loses it, and ends.
func checkWritten(bench *Bench) {
	platform, gateway := bench.Platform, bench.create("go", "")
	stranger := bench.connecting(gateway)
	stranger.Dialer.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	_, refusal := stranger.connect()
	var unknown x509.UnknownAuthorityError
	check("without the hub's CA it does not trust the hub", refusal != nil && errors.As(refusal.Err, &unknown), true)

	stranger = bench.connecting(Registered{Key: "no-such-key"})
	stranger.Run() // returns, since a 401 is final
	check("an unknown key is refused with 401", brief(stranger.next(patience)), "refused 401")

	g := bench.connecting(gateway)
	go g.Run()
	checkEvents(g, platform, gateway.ID)
	checkLosses(g, platform, gateway.ID)
	checkEnds(g, platform, gateway)
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
	for number, published := range platform.publishBatch(gateway, "interop.event", numbers(batch)...) {
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
func checkEnds(g *Gateway, platform *Platform, gateway Registered) {
	must(g.Stop())
	check("its close with 1000 is answered with 1000", brief(g.next(patience)), "closed 1000 gateway shutting down")

	again := &Gateway{URL: g.URL, Key: g.Key, Dialer: g.Dialer, PingLimit: g.PingLimit, Happened: g.Happened}
	go again.Run()
	checkConnected(again, "a gateway that was stopped comes back", gateway.ID, false)
	platform.call("DELETE", "/api/v1/gateways/"+gateway.ID+"/tokens/"+gateway.TokenID, nil)
	check("revoking its token closes it with 1008", brief(again.next(patience)), "closed 1008 key revoked")
	check("it comes back at once and is refused with 401", brief(again.next(patience)), "refused 401")
}
