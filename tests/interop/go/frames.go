// A client written frame by frame (RFC 6455), whose pongs are what a check says; and the checks that need one.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
	// Less than the second after which the hub sends a ping in front of an event, too.
	quiet = 300 * time.Millisecond
)

// Frames is a connection that answers nothing by itself.
type Frames struct {
	conn   *tls.Conn
	reader *bufio.Reader
	// The payloads of all pings that were read.
	pings []string
}

// open connects with the key and reads the connection.ack.
func (b *Bench) open(gateway Registered) *Frames {
	conn, err := tls.Dial("tcp", strings.TrimPrefix(b.Platform.Hub, "https://"), b.Trusting)
	must(err)
	f := &Frames{conn: conn, reader: bufio.NewReader(conn)}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: %s\r\n\r\n", connectPath, gateway.Key)
	answer, err := http.ReadResponse(f.reader, nil)
	must(err)
	if answer.StatusCode != http.StatusSwitchingProtocols {
		must(fmt.Errorf("the hub answered %s to a connect", answer.Status))
	}
	if ack := f.next(patience); ack.Type != "connection.ack" {
		must(fmt.Errorf("expected the ack of the connection: found %s", ack.Type))
	}
	return f
}

// frame reads one frame. It returns os.ErrDeadlineExceeded where none begins in time.
func (f *Frames) frame(until time.Time) (opcode byte, payload []byte, err error) {
	f.conn.SetReadDeadline(until)
	if _, err = f.reader.Peek(2); err != nil {
		return 0, nil, err
	}
	f.conn.SetReadDeadline(time.Now().Add(patience))
	var head [2]byte
	if _, err = io.ReadFull(f.reader, head[:]); err != nil {
		return 0, nil, err
	}
	length := uint64(head[1])
	if length >= 126 {
		extended := make([]byte, map[uint64]int{126: 2, 127: 8}[length])
		if _, err = io.ReadFull(f.reader, extended); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(append(make([]byte, 8-len(extended)), extended...))
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(f.reader, payload)
	return head[0] & 0x0f, payload, err
}

// next returns the next message and notes the pings before it. The type of what is not a message says what it is.
func (f *Frames) next(within time.Duration) (message Message) {
	until := time.Now().Add(within)
	for {
		opcode, payload, err := f.frame(until)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return Message{Type: "nothing"}
		case err != nil:
			return Message{Type: err.Error()}
		case opcode == opPing:
			f.pings = append(f.pings, string(payload))
		case opcode == opClose && len(payload) >= 2:
			return Message{Type: fmt.Sprint("closed ", binary.BigEndian.Uint16(payload), " ", string(payload[2:]))}
		case opcode == opText:
			must(json.Unmarshal(payload, &message))
			return message
		}
	}
}

// pong sends a pong with a payload of less than 126 bytes.
func (f *Frames) pong(payload string) {
	const mask = "\x00\x00\x00\x00"
	frame := append([]byte{0x80 | opPong, 0x80 | byte(len(payload))}, mask+payload...)
	_, err := f.conn.Write(frame)
	must(err)
}

// checkEvent reads the next message, which is this event, and waits for the ping behind it.
func (f *Frames) checkEvent(what string, published Published) {
	check(what, f.next(patience).Position, published.Position)
	for end := time.Now().Add(patience); len(f.pings) == 0 || f.pings[len(f.pings)-1] != published.Position; {
		opcode, payload, err := f.frame(end)
		if err != nil {
			fail("%s, with its ping behind it: %v", what, err)
		}
		if opcode != opPing {
			fail("%s, with its ping behind it: found a frame with opcode %d", what, opcode)
		}
		f.pings = append(f.pings, string(payload))
	}
}

// beyond returns a position of the same epoch that lies further on.
func beyond(position string, events int) string {
	epoch, offset, _ := strings.Cut(position, "-")
	number, err := strconv.Atoi(offset)
	must(err)
	return fmt.Sprint(epoch, "-", number+events)
}

// anotherEpoch returns a position with the same offset.
func anotherEpoch(position string) string {
	digit := "0"
	if position[0] == '0' {
		digit = "1"
	}
	return digit + position[1:]
}

// checkPongsThatProveNothing sends pongs that answer no ping of their connection.
func checkPongsThatProveNothing(bench *Bench) {
	platform, gateway := bench.Platform, bench.create("pongs", processed)
	unexpected := platform.metric("gatecast_pongs_unexpected_total")
	f := bench.open(gateway)
	all := platform.publishBatch(gateway.ID, "interop.event", numbers(4)...)
	f.checkEvent("it gets the first event", all[0])
	invented := []string{
		"invented", all[1].Position, beyond(all[0].Position, 1000), anotherEpoch(all[0].Position), all[0].Position + " ",
		strings.Repeat("9", 125),
	}
	for _, payload := range invented {
		f.pong(payload)
	}
	check("invented pongs, of later positions and another epoch, prove nothing", f.next(quiet).Type, "nothing")
	rows := platform.connections(gateway.ID)
	check("the stats say that its events are not processed", len(rows) == 1 && rows[0].Unprocessed == len(all), true)
	check("each is counted as unexpected", platform.metric("gatecast_pongs_unexpected_total")-unexpected, len(invented))
	f.conn.Close()

	f = bench.open(gateway)
	f.checkEvent("the next connection gets the same event", all[0])
	f.pong(all[0].Position)
	f.checkEvent("the pong of its ping brings the second event", all[1])
	for again := 0; again < 3; again++ {
		f.pong(all[0].Position)
	}
	check("the same pong again proves nothing", f.next(quiet).Type, "nothing")
	f.pong(all[1].Position)
	f.checkEvent("the pong of its own ping brings the third", all[2])
	f.pong(all[1].Position)
	f.pong(all[0].Position)
	check("earlier pongs out of order prove nothing", f.next(quiet).Type, "nothing")
	f.conn.Close()
	// A heartbeat may have repeated a position, so that a second pong with it is as good as the first.
	counted := platform.metric("gatecast_pongs_unexpected_total") - unexpected
	check("they are counted as unexpected", counted >= len(invented)+3 && counted <= len(invented)+5, true)

	f = bench.open(gateway)
	f.checkEvent("the connection after that gets the third event again", all[2])
	f.pong(all[2].Position)
	f.checkEvent("and then the fourth", all[3])
	f.pong(all[3].Position)
	checkNothingLeft(bench, gateway, all[3])
	f.conn.Close()
}

// checkLatestPingOnly answers only the latest ping that has come, as RFC 6455 section 5.5.3 allows.
func checkLatestPingOnly(bench *Bench) {
	platform, gateway := bench.Platform, bench.create("latest", processed)
	unexpected := platform.metric("gatecast_pongs_unexpected_total")
	f := bench.open(gateway)
	const events = 4
	all := platform.publishBatch(gateway.ID, "interop.event", numbers(events)...)
	for number, published := range all {
		f.checkEvent(fmt.Sprint("it gets event ", number), published)
		if number < 2 {
			// Two heartbeats and more.
			pings := len(f.pings)
			check("nothing follows until it answers", f.next(bench.scaled(45*time.Second)).Type, "nothing")
			check("but pings do", len(f.pings)-pings >= 2, true)
		}
		f.pong(f.pings[len(f.pings)-1])
	}
	checkNothingLeft(bench, gateway, all[events-1])
	f.conn.Close()
	check("no pong was unexpected", platform.metric("gatecast_pongs_unexpected_total")-unexpected, 0)
	f = bench.open(gateway)
	check("nothing is repeated after it answered only the latest ping", f.next(bench.scaled(5*time.Second)).Type, "nothing")
	f.conn.Close()
}

// checkProcessingTimeout has a gateway whose kernel takes everything and which handles nothing.
func checkProcessingTimeout(bench *Bench) {
	gateway := bench.create("timeout", processed)
	timeout := bench.scaled(60 * time.Second)
	f := bench.open(gateway)
	published := bench.Platform.publish(gateway.ID, "interop.event", 0)
	began := time.Now()
	f.checkEvent("it gets an event that it will not process", published)
	check("the connection that processes nothing is closed", f.next(2*timeout).Type, "closed 1011 processing timeout")
	took := time.Since(began)
	check(fmt.Sprintf("and not before or long after %v", timeout), took > timeout*9/10 && took < timeout*3/2, true)
	f.conn.Close()
	f = bench.open(gateway)
	f.checkEvent("the next connection gets the event that was not processed", published)
	f.pong(published.Position)
	checkNothingLeft(bench, gateway, published)
	f.conn.Close()
}
