// Gateways on gorilla/websocket that behave as API gateways in the field do: they connect over wss and print a line for each
// thing that holds or does not.
//
//	go-client            a gateway in the delivery `written`
//	go-client processed  gateways in the delivery `processed`, and clients written frame by frame that send other pongs
//	go-client gateway    a process of its own for the mode above: appends each event that it has handled to a file
//
// Environment: HUB (https://host:port), CA (PEM file), ADMIN_TOKEN (its text), PING_LIMIT (how long a gateway waits for a ping, by
// default 35s). Lines that begin with `hub:` are requests to run.py.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	connectPath         = "/api/internal/v1/ws/gateways/connect"
	productionPingLimit = 35 * time.Second
	happenedBound       = 10_000           // more than can happen between two checks, so that the read loop never waits for one
	callTimeout         = 80 * time.Second // a publish may wait for 60 s
)

// Bench has what every scenario needs: the hub, how to trust it, and the ping limit, which says how much faster than in production time passes.
type Bench struct {
	Platform  *Platform
	Trusting  *tls.Config
	PingLimit time.Duration
}

// Registered is a gateway that the hub knows.
type Registered struct {
	Name    string
	ID      string
	Key     string
	TokenID string
}

func main() {
	mode := strings.Join(os.Args[1:], " ")
	scenario(func() { run(mode, newBench()) })
	os.Exit(int(atomic.LoadInt32(&failed)))
}

func run(mode string, bench *Bench) {
	switch mode {
	case "":
		checkWritten(bench)
	case "processed":
		name = "go processed"
		checkProcessed(bench)
	case "gateway":
		name = "go gateway"
		runGatewayProcess(bench)
	default:
		fail("expected no argument, `processed` or `gateway`: found %q", mode)
	}
}

func newBench() *Bench {
	pingLimit := productionPingLimit
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
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting.Clone()}, Timeout: callTimeout}
	return &Bench{&Platform{os.Getenv("HUB"), os.Getenv("ADMIN_TOKEN"), client}, trusting, pingLimit}
}

// scaled shortens a duration of production as the ping limit is shortened.
func (b *Bench) scaled(duration time.Duration) time.Duration {
	return time.Duration(float64(duration) * float64(b.PingLimit) / float64(productionPingLimit))
}

// create registers a gateway with a token. Without a delivery it has the hub's default.
func (b *Bench) create(name, delivery string) Registered {
	fields := map[string]string{"name": name}
	if delivery != "" {
		fields["delivery"] = delivery
	}
	gateway := b.Platform.create("/api/v1/gateways", fields)
	token := b.Platform.create("/api/v1/gateways/"+gateway.ID+"/tokens", struct{}{})
	return Registered{name, gateway.ID, token.Token, token.ID}
}

// connecting returns a gateway that connects with the key once Run is called.
func (b *Bench) connecting(gateway Registered) *Gateway {
	return &Gateway{
		URL:       strings.Replace(b.Platform.Hub, "https://", "wss://", 1) + connectPath,
		Key:       gateway.Key,
		Dialer:    &websocket.Dialer{TLSClientConfig: b.Trusting, HandshakeTimeout: 10 * time.Second, EnableCompression: true},
		PingLimit: b.PingLimit,
		Happened:  make(chan interface{}, happenedBound),
	}
}
