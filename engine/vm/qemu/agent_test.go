package qemu

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
)

// TestAgent has a guest answer with much that is no answer: it is passed over, or an error,
// and none of it is kept.
func TestAgent(t *testing.T) {
	conn, guest := net.Pipe()
	defer conn.Close()
	a := &agent{conn: conn}
	const much = 1 << 20
	go func() {
		defer guest.Close()
		asked := bufio.NewReader(guest)
		_, _ = asked.ReadString('\n')
		junk := strings.Repeat("x", much)
		fmt.Fprintf(guest, "%s\xff%s\n\xff{\"return\":1}\n", junk, junk)
		_, _ = asked.ReadString('\n')
		fmt.Fprintf(guest, "{\"return\":%q}\n", junk)
		for {
			if _, err := guest.Write([]byte(junk)); err != nil {
				return
			}
		}
	}()
	if err := a.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := a.lines.Size(); n > much/16 {
		t.Errorf("%d bytes of junk are kept", n)
	}
	var long string
	if err := a.run(t.Context(), "long", nil, &long); err != nil || len(long) != much {
		t.Errorf("a long answer has %d bytes, %v", len(long), err)
	}
	if _, err := a.line(2 * much); err == nil || !strings.Contains(err.Error(), "more than 2097152 bytes") {
		t.Errorf("an answer without an end: %v", err)
	}
}
