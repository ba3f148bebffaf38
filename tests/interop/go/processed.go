// The checks of gateways in the delivery `processed`: a pong proves that each event before its ping was handled, so nothing is lost
// by a gateway that is slow, hangs up, was away or is killed.
package main

import (
	"fmt"
	"strings"
	"time"
)

const (
	deployments    = 30
	deploymentTime = 1500 * time.Millisecond // unscaled
	burst          = 500
	processed      = "processed"
	// delivery.poison_connections in run.py.
	poisonConnections = 3
)

func checkProcessed(bench *Bench) {
	// These spend most of their time waiting, each for a gateway of its own.
	together(
		func() { checkDeployments(bench) },
		func() { checkHandlerThatHangsOnce(bench) },
		func() { checkHandlerThatOutlivesItsConnection(bench) },
		func() { checkPoison(bench) },
		func() { checkWait(bench) },
		func() { checkProcessingTimeout(bench) },
	)
	// These compare metrics of the whole hub, or kill it.
	scenario(func() { checkAway(bench) })
	scenario(func() { checkBurst(bench) })
	scenario(func() { checkListenerBeside(bench) })
	scenario(func() { checkPongsThatProveNothing(bench) })
	scenario(func() { checkLatestPingOnly(bench) })
	scenario(func() { checkKills(bench) })
}

// event is what `brief` says of an event that was handled; dropped, of one that was dropped.
func event(published Published, payload interface{}) string {
	return "event " + published.Position + " " + string(encode(payload))
}

func dropped(published Published, payload interface{}) string {
	return "dropped " + published.Position + " " + string(encode(payload))
}

// checkNext compares the next things that happen to a gateway, pings left out. The patience is that for each.
func checkNext(g *Gateway, what string, each time.Duration, expected ...string) {
	var found []string
	for len(found) < len(expected) {
		happened := fmt.Sprint(brief(g.next(each)))
		found = append(found, happened)
		if strings.HasPrefix(happened, "nothing within") {
			break
		}
	}
	check(what, found, expected)
}

// checkNothingLeft waits until the hub knows that a connected gateway has processed everything up to `last`.
func checkNothingLeft(bench *Bench, gateway Registered, last Published) {
	var rows []Connection
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		rows = bench.Platform.connections(gateway.ID)
		if len(rows) == 1 && rows[0].Processed == last.Position && rows[0].Unprocessed == 0 {
			break
		}
	}
	for index := range rows {
		// The connection id and the number of missed events are not compared.
		rows[index].ConnectionID, rows[index].Missed = "", 0
	}
	expected := []Connection{{Delivery: processed, Processed: last.Position}}
	check(fmt.Sprintf("the stats say that the gateway `%s` has processed everything", gateway.Name), rows, expected)
}

// checkDeployments publishes at once more deployments than a gateway handles before it misses a ping that stands behind them.
func checkDeployments(bench *Bench) {
	platform, gateway := bench.Platform, bench.create("deployments", "")
	each := bench.scaled(deploymentTime)
	g := bench.connecting(gateway)
	g.SetHandling(each)
	go g.Run()
	checkNext(g, "a gateway in the hub's default delivery connects", patience, "connected")
	platform.call("PATCH", "/api/v1/gateways/"+gateway.ID, encode(map[string]string{"delivery": processed}))
	lost, _ := g.next(patience).(Lost)
	check("switching on `processed` closes its connection with 1001", lost.Code, 1001)
	checkNext(g, "and the gateway is let in at once", patience, "connected")

	var payloads []interface{}
	var expected []string
	for number := 0; number < deployments; number++ {
		performed := time.Now().Add(time.Duration(number) * time.Millisecond).UTC().Format(time.RFC3339Nano)
		payloads = append(payloads, map[string]string{
			"apiId": fmt.Sprint("api-", number), "deploymentId": fmt.Sprint("deployment-", number), "performedAt": performed,
		})
	}
	acknowledged := platform.metric("gatecast_deployments_acknowledged_total")
	all := platform.publishBatch(gateway.ID, "api.deployed", payloads...)
	for number, published := range all {
		expected = append(expected, event(published, payloads[number]))
	}
	what := fmt.Sprintf("%d deployments of %v each arrive on one connection, though it hangs up after %v without a ping", deployments, each, g.PingLimit)
	checkNext(g, what, each+patience, expected...)
	checkNothingLeft(bench, gateway, all[deployments-1])
	found := platform.metric("gatecast_deployments_acknowledged_total") - acknowledged
	check("each deployment.ack is counted", found, deployments)
	checkEnd(g, "and the connection is the same until the gateway ends it")
}

// checkEnd ends a gateway in order; nothing may have happened to it since.
func checkEnd(g *Gateway, what string) {
	must(g.Stop())
	checkNext(g, what, patience, "closed 1000 gateway shutting down")
}

// hangs is a handler that does not end for events with this payload, as often as `times` says, until the gateway hangs up.
func hangs(payload string, times int) func(Message, <-chan struct{}) bool {
	return func(event Message, hungUp <-chan struct{}) bool {
		if string(event.Payload) != payload || times == 0 {
			return true
		}
		times--
		<-hungUp
		return false
	}
}

func checkHandlerThatHangsOnce(bench *Bench) {
	gateway := bench.create("hangs once", processed)
	g := bench.connecting(gateway)
	g.Handle = hangs("1", 1)
	go g.Run()
	checkNext(g, "a gateway whose delivery is `processed` from its creation connects", patience, "connected")
	all := bench.Platform.publishBatch(gateway.ID, "interop.event", numbers(4)...)
	checkNext(g, "an event whose handler hangs is repeated after the gateway hung up, and nothing behind it is lost", g.PingLimit+patience,
		event(all[0], 0), "hung up", "connected", event(all[1], 1), event(all[2], 2), event(all[3], 3))
	checkNothingLeft(bench, gateway, all[3])
	checkEnd(g, "nothing else was repeated to the gateway that hung up")
}

func checkHandlerThatOutlivesItsConnection(bench *Bench) {
	gateway := bench.create("outlives", processed)
	g := bench.connecting(gateway)
	duration := g.PingLimit + bench.scaled(5*time.Second)
	g.Handle = func(event Message, _ <-chan struct{}) bool {
		if string(event.Payload) == "1" {
			time.Sleep(duration)
		}
		return true
	}
	go g.Run()
	checkNext(g, "a gateway with a slow handler connects", patience, "connected")
	all := bench.Platform.publishBatch(gateway.ID, "interop.event", numbers(3)...)
	checkNext(g, fmt.Sprintf("an event that takes %v, longer than the connection lives, is handled once, and its repetition dropped", duration),
		duration+patience, event(all[0], 0), event(all[1], 1), "hung up", "connected", dropped(all[1], 1), event(all[2], 2))
	checkNothingLeft(bench, gateway, all[2])
	checkEnd(g, "nothing else was repeated to the gateway with the slow handler")
}

// checkPoison has an event that no connection survives. The hub's settings say after how many connections it is skipped.
func checkPoison(bench *Bench) {
	platform, gateway := bench.Platform, bench.create("poison", processed)
	poisoned := platform.metric("gatecast_events_poisoned_total")
	skipped := platform.metric(`gatecast_events_skipped_total{reason="poison"}`)
	g := bench.connecting(gateway)
	g.Handle = hangs("1", poisonConnections)
	go g.Run()
	checkNext(g, "a gateway that will be given poison connects", patience, "connected")
	all := platform.publishBatch(gateway.ID, "interop.event", numbers(4)...)
	expected := []string{event(all[0], 0)}
	for connections := 0; connections < poisonConnections; connections++ {
		expected = append(expected, "hung up", "connected")
	}
	expected = append(expected, event(all[2], 2), event(all[3], 3))
	what := fmt.Sprintf("an event that ends %d connections is skipped, and those behind it arrive", poisonConnections)
	checkNext(g, what, g.PingLimit+patience, expected...)
	checkNothingLeft(bench, gateway, all[3])
	counted := []int{
		platform.metric("gatecast_events_poisoned_total") - poisoned,
		platform.metric(`gatecast_events_skipped_total{reason="poison"}`) - skipped,
	}
	check("the poison is counted as poisoned and as skipped", counted, []int{1, 1})

	platform.call("POST", "/api/v1/gateways/"+gateway.ID+"/events/"+all[1].Position+"/resend", nil)
	resent, isEvent := g.next(patience).(Event)
	check("`resend` sends it again, with another position", []interface{}{isEvent, string(resent.Payload), resent.Position != all[1].Position},
		[]interface{}{true, "1", true})
	checkEnd(g, "nothing else was sent to the gateway that was given poison")
}

// checkWait publishes with `until=processed`.
func checkWait(bench *Bench) {
	platform, gateway := bench.Platform, bench.create("wait", processed)
	g := bench.connecting(gateway)
	go g.Run()
	checkNext(g, "a gateway connects whose publishers wait", patience, "connected")

	long, began := bench.scaled(5*time.Second), time.Now()
	g.SetHandling(long)
	published := platform.publishAndWait(gateway.ID, "interop.event", "long", 30*time.Second)
	took := time.Since(began)
	check("a publish that waits is answered `processed` true", published.said(), "true")
	check(fmt.Sprintf("and not before the handler has ended, after %v", long), took >= long && took < long+patience, true)
	checkNext(g, "and the handler had ended then", 100*time.Millisecond, event(published, "long"))

	short := bench.scaled(time.Second)
	published = platform.publishAndWait(gateway.ID, "interop.event", "late", short)
	check("a wait that is too short is answered `processed` false", published.said(), "false")
	rows := platform.connections(gateway.ID)
	check("the gateway has one connection", len(rows), 1)
	check("`missing` names that connection", missing(published), []string{rows[0].ConnectionID})
	check("its stats say what it is processing", rows[0].Processing != nil && rows[0].Processing.Position == published.Position, true)
	checkNext(g, "and the event is handled all the same", long+patience, event(published, "late"))
	checkNothingLeft(bench, gateway, published)
	checkEnd(g, "nothing was sent twice to the gateway whose publishers wait")
}

// missing returns the connections that have not processed an event, `null` for a gateway that is away.
func missing(published Published) (connections []string) {
	for _, one := range published.Missing {
		if one.ConnectionID == nil {
			connections = append(connections, "null")
		} else {
			connections = append(connections, *one.ConnectionID)
		}
	}
	return connections
}

// checkAway publishes while the gateway is away.
func checkAway(bench *Bench) {
	platform, gateway := bench.Platform, bench.create("away", processed)
	skipped := platform.metric(`gatecast_events_skipped_total{reason="replay"}`)
	g := bench.connecting(gateway)
	go g.Run()
	checkNext(g, "a gateway that will go away connects", patience, "connected")
	before := platform.publishAndWait(gateway.ID, "interop.event", "before", patience)
	checkNext(g, "it gets an event", patience, event(before, "before"))
	checkEnd(g, "it ends with 1000 as any other")
	waitUntil("the hub knows that it is away", patience, func() bool { return len(platform.connections(gateway.ID)) == 0 })

	first := platform.publish(gateway.ID, "interop.event", "first")
	check("a publish to it answers that it waits, and is not failed", []interface{}{first.Connections, first.Failed, first.Waiting}, []interface{}{0, 0, true})
	for _, kind := range []string{"apikey.updated", "subscription.created", "subscriptionPlan.deleted"} {
		platform.publish(gateway.ID, kind, kind)
	}
	second := platform.publishAndWait(gateway.ID, "api.deleted", "second", bench.scaled(2*time.Second))
	check("a publish that waits for it answers `processed` false", second.said(), "false")
	check("and that no connection was there", missing(second), []string{"null"})

	again := bench.connecting(gateway)
	go again.Run()
	checkNext(again, "once it is back it gets what it missed, without keys, subscriptions and plans", patience,
		"connected", event(first, "first"), event(second, "second"))
	checkNothingLeft(bench, gateway, second)
	check("those are counted as skipped", platform.metric(`gatecast_events_skipped_total{reason="replay"}`)-skipped, 3)
	live := platform.publishAndWait(gateway.ID, "apikey.updated", "live", patience)
	checkNext(again, "a key that is updated while it is there is delivered", patience, event(live, "live"))
	checkEnd(again, "nothing of before came again")
	checkSkippedWait(bench, gateway)
}

// checkSkippedWait waits for an event that is passed over when its gateway comes back.
func checkSkippedWait(bench *Bench, gateway Registered) {
	platform, answered := bench.Platform, make(chan string, 1)
	waitUntil("the hub knows that it is away again", patience, func() bool { return len(platform.connections(gateway.ID)) == 0 })
	go func() {
		defer close(answered)
		answered <- platform.publishAndWait(gateway.ID, "apikey.revoked", "skipped", 30*time.Second).Skipped
	}()
	time.Sleep(bench.scaled(3 * time.Second)) // so that it is published before the gateway connects
	g := bench.connecting(gateway)
	go g.Run()
	check("a wait for an event that is skipped when the gateway is back says so", <-answered, "replay")
	checkNext(g, "that gateway has connected", patience, "connected")
	checkEnd(g, "and was not given the event")
}

func checkBurst(bench *Bench) {
	gateway := bench.create("burst", processed)
	g := bench.connecting(gateway)
	go g.Run()
	checkNext(g, "a gateway for a burst connects", patience, "connected")
	all := bench.Platform.publishBatch(gateway.ID, "interop.event", numbers(burst)...)
	var expected []string
	for number, published := range all {
		expected = append(expected, event(published, number))
	}
	checkNext(g, fmt.Sprintf("a burst of %d arrives in order", burst), patience, expected...)
	checkNothingLeft(bench, gateway, all[burst-1])
	checkEnd(g, "and none of the burst came twice")
}

// checkListenerBeside has a second connection of the gateway with `?delivery=written`, whose pongs must prove nothing.
func checkListenerBeside(bench *Bench) {
	platform, gateway := bench.Platform, bench.create("beside", processed)
	g, listener := bench.connecting(gateway), bench.connecting(gateway)
	listener.URL += "?delivery=written"
	g.Handle = hangs("0", 1)
	go g.Run()
	go listener.Run()
	checkNext(g, "a gateway connects", patience, "connected")
	checkNext(listener, "a listener connects beside it", patience, "connected")
	all := platform.publishBatch(gateway.ID, "interop.event", numbers(3)...)
	expected := []string{event(all[0], 0), event(all[1], 1), event(all[2], 2)}
	checkNext(listener, "the listener gets every event at once", patience, expected...)
	checkNext(g, "what the listener got is repeated to the gateway that hung up", g.PingLimit+patience,
		append([]string{"hung up", "connected"}, expected...)...)

	// A gateway that ends before its last pong would get the last event again.
	waitUntil("the gateway has processed everything beside the listener", patience, func() bool {
		for _, row := range platform.connections(gateway.ID) {
			if row.Delivery == processed {
				return row.Unprocessed == 0
			}
		}
		return false
	})
	checkEnd(g, "the gateway goes away")
	waitUntil("the hub knows that only the listener is there", patience, func() bool { return len(platform.connections(gateway.ID)) == 1 })
	more := platform.publishBatch(gateway.ID, "interop.event", numbers(3)...)
	expected = []string{event(more[0], 0), event(more[1], 1), event(more[2], 2)}
	checkNext(listener, "the listener gets events alone", patience, expected...)
	time.Sleep(bench.scaled(5 * time.Second)) // its pongs are on their way
	again := bench.connecting(gateway)
	go again.Run()
	checkNext(again, "the gateway gets them once it is back", patience, append([]string{"connected"}, expected...)...)
	checkEnd(listener, "the listener got nothing twice")
	checkNothingLeft(bench, gateway, more[2])
	checkEnd(again, "nor did the gateway")
}
