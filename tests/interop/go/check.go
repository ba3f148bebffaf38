// How checks are printed, and how they wait for what happens to a gateway.
package main

import (
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const patience = 5 * time.Second // how long a check waits for what should happen

var (
	name   = "go gorilla/websocket" // stands in front of each check
	failed int32                    // 1 once a check has failed; atomic
)

// scenario runs checks to their end or to the first that fails, which skips the rest of them and of no other scenario.
func scenario(checks func()) {
	together(checks)
}

// together runs scenarios at the same time and waits for all of them.
func together(scenarios ...func()) {
	var running sync.WaitGroup
	for _, checks := range scenarios {
		running.Add(1)
		go func(checks func()) {
			defer running.Done()
			checks()
		}(checks)
	}
	running.Wait()
}

// fail prints why and where a check failed, and ends the scenario, that is the goroutine that calls it.
func fail(format string, values ...interface{}) {
	fmt.Printf("FAIL  %s: %s (%s)\n", name, fmt.Sprintf(format, values...), scenarioLine())
	atomic.StoreInt32(&failed, 1)
	runtime.Goexit()
}

// scenarioLine returns the line that runs in the outermost function of the scenario, whose name begins with `check`.
func scenarioLine() (line string) {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for {
		frame, more := frames.Next()
		function := strings.TrimPrefix(frame.Function, "main.")
		if strings.HasPrefix(function, "check") && !strings.Contains(function, ".") {
			line = fmt.Sprint(function, ", ", filepath.Base(frame.File), ":", frame.Line)
		}
		if !more {
			return line
		}
	}
}

func check(what string, found, expected interface{}) {
	if !reflect.DeepEqual(found, expected) {
		fail("%s: expected %+v, found %+v", what, expected, found)
	}
	fmt.Printf("ok    %s: %s\n", name, what)
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

// waitUntil waits for a condition, and fails the check `what` where it does not come true.
func waitUntil(what string, within time.Duration, condition func() bool) {
	for end := time.Now().Add(within); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			fail("%s: not within %v", what, within)
		}
	}
	fmt.Printf("ok    %s: %s\n", name, what)
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

// brief turns what happened into the text that a check compares. A message of `next` stays as it is.
func brief(happened interface{}) interface{} {
	switch happened := happened.(type) {
	case Connected:
		return "connected"
	case Refused:
		return fmt.Sprint("refused ", happened.Status)
	case Lost:
		if happened.HungUp {
			return "hung up"
		}
		return fmt.Sprint("closed ", happened.Code, " ", happened.Reason)
	case Event:
		return "event " + happened.Position + " " + string(happened.Payload)
	case Dropped:
		return "dropped " + happened.Position + " " + string(happened.Payload)
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
