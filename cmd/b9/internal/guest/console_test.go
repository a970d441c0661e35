package guest

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// patience is how long a test waits for what comes at once.
const patience = time.Minute

// TestTypingEnds ends typing while the guest reads nothing, and while nothing is typed.
func TestTypingEnds(t *testing.T) {
	in, person, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer person.Close()
	console, guest := net.Pipe()
	defer guest.Close()
	end := func(what string, more func()) {
		t.Helper()
		done := make(chan struct{})
		stop, typed := (&terminal{in: in}).read(console, make(chan byte), done)
		more()
		close(done)
		stop()
		select {
		case <-typed:
		case <-time.After(patience):
			t.Fatalf("%s: typing does not end", what)
		}
	}
	end("nobody reads", func() {
		if _, err := person.WriteString("many words"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(guest, make([]byte, 1)); err != nil { // the rest is being written
			t.Fatal(err)
		}
	})
	for range 200 {
		end("nothing is typed", func() {})
	}
}

// TestNewest runs once more for all that was asked for meanwhile, and ends what runs.
func TestNewest(t *testing.T) {
	size := 1
	sizes, held := make(chan int, 1), make(chan struct{})
	n := newest{run: func(ctx context.Context) {
		sizes <- size
		select {
		case <-held:
		case <-ctx.Done():
		}
	}}
	n.ask(t.Context())
	if got := <-sizes; got != 1 { // the guest is awaited
		t.Errorf("at first it runs with %d", got)
	}
	size = 2
	n.ask(t.Context())
	n.ask(t.Context())
	held <- struct{}{}
	<-n.done
	n.ended(t.Context())
	if got := <-sizes; got != 2 {
		t.Errorf("it was asked for, and runs with %d", got)
	}
	held <- struct{}{}
	<-n.done
	if n.ended(t.Context()); n.done != nil {
		t.Error("it runs again, and nobody asked")
	}
	n.ask(t.Context())
	n.end() // although nobody ends it
}
