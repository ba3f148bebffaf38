// A gateway in a process of its own, which is killed in the middle of its events, as is the hub.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	eventsUnderKills   = 60
	handlingUnderKills = 500 * time.Millisecond // unscaled
)

// runGatewayProcess appends a line to the file HANDLED for each event that it has handled or dropped, before its pong. It ends with
// its standard input. KEY is its key, HANDLING how long it takes for an event.
func runGatewayProcess(bench *Bench) {
	handling, err := time.ParseDuration(os.Getenv("HANDLING"))
	must(err)
	file, err := os.OpenFile(os.Getenv("HANDLED"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(err)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	g := bench.connecting(Registered{Key: os.Getenv("KEY")})
	g.Handle = func(event Message, _ <-chan struct{}) bool {
		time.Sleep(handling)
		_, err := fmt.Fprintf(file, "event %s %s\n", event.Position, event.Payload)
		return err == nil
	}
	go g.Run()
	for happened := range g.Happened {
		switch happened.(type) {
		case Connected, Dropped:
			fmt.Fprintln(file, brief(happened))
		}
	}
}

// Process is such a gateway.
type Process struct {
	command *exec.Cmd
	input   io.Closer
	path    string
}

func startProcess(gateway Registered, path string, handling time.Duration) *Process {
	command := exec.Command(os.Args[0], "gateway")
	command.Env = append(os.Environ(), "KEY="+gateway.Key, "HANDLED="+path, "HANDLING="+handling.String())
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	input, err := command.StdinPipe()
	must(err)
	must(command.Start())
	return &Process{command, input, path}
}

// kill ends it as `kill -9` does.
func (p *Process) kill() {
	p.command.Process.Kill()
	p.command.Wait()
}

// lines returns the lines of the file, without one that is being written.
func (p *Process) lines() []string {
	text, err := os.ReadFile(p.path)
	if err != nil {
		return nil
	}
	lines := strings.Split(string(text), "\n")
	return lines[:len(lines)-1]
}

// waitFor waits until the file has a line for this event.
func (p *Process) waitFor(what string, event string, within time.Duration) {
	waitUntil(what, within, func() bool {
		for _, line := range p.lines() {
			if line == event {
				return true
			}
		}
		return false
	})
}

// checkKills kills the gateway, the hub, and both.
func checkKills(bench *Bench) {
	gateway := bench.create("kills", processed)
	place, err := os.MkdirTemp("", "gatecast-interop-")
	must(err)
	defer os.RemoveAll(place)
	handling := bench.scaled(handlingUnderKills)
	within := eventsUnderKills*handling + 4*patience
	start := func() *Process { return startProcess(gateway, place+"/handled", handling) }

	process := start()
	defer func() { process.kill() }()
	waitUntil("a gateway in a process of its own connects", patience, func() bool { return len(process.lines()) == 1 })
	all := bench.Platform.publishBatch(gateway.ID, "interop.event", numbers(eventsUnderKills)...)
	process.waitFor("it handles events until it is killed", event(all[10], 10), within)
	process.kill()
	process = start()
	process.waitFor("it goes on until the hub is killed", event(all[25], 25), within)
	inOrder, repeated := compare(process.lines(), all)
	check("the kill of the gateway made it skip nothing", inOrder, "")
	check("and repeated at most the event that it handled", repeated <= 1, true)
	fmt.Println("hub: kill")
	process.waitFor("it goes on until both are killed", event(all[40], 40), within)
	fmt.Println("hub: kill")
	process.kill()
	process = start()
	process.waitFor("it goes on to the last event", event(all[eventsUnderKills-1], eventsUnderKills-1), within)
	waitUntil("the hub is back", patience, func() bool { return len(bench.Platform.connections(gateway.ID)) == 1 })
	checkNothingLeft(bench, gateway, all[eventsUnderKills-1])

	// What was processed in the second before a kill of the hub may be repeated, which here is many.
	inOrder, _ = compare(process.lines(), all)
	check("each event was handled, in order", inOrder, "")
}

// compare returns the first line that skips an event, and how many events were repeated.
func compare(lines []string, all []Published) (wrong string, repeated int) {
	places := map[string]int{}
	for number, published := range all {
		places[event(published, number)] = number
		places[dropped(published, number)] = number
	}
	next := 0
	for _, line := range lines {
		if line == "connected" {
			continue
		}
		place, known := places[line]
		switch {
		case !known || place > next:
			return fmt.Sprintf("%s instead of event %d", line, next), repeated
		case place == next:
			next++
		default:
			repeated++
		}
	}
	return wrong, repeated
}
