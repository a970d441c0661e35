package guest

import (
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
