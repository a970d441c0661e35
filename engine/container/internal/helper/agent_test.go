package helper

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// dialogue is one end of one: what it reads, and what was written to it.
type dialogue struct {
	io.Reader
	bytes.Buffer
}

func (t *dialogue) Read(p []byte) (int, error) { return t.Reader.Read(p) }

// agentMessage is a message with its length, which is small.
func agentMessage(text string) string { return "\x00\x00\x00" + string(rune(len(text))) + text }

// TestRelayAgent passes on what may be asked and refuses the rest.
func TestRelayAgent(t *testing.T) {
	bind := "\x1b\x00\x00\x00" + string(rune(len(sessionBind))) + sessionBind
	asked := []string{"\x0b", "\x0dkey", "\x11add", "\x12remove", "\x13", "\x16lock", "\x17unlock", bind + "host", "\x1b\x00\x00\x00\x05query", "\x1b", "\x1b\x00\x00\x00\x18", "\x0b"}
	var requests, passed, answers strings.Builder
	for _, text := range asked {
		requests.WriteString(agentMessage(text))
		answer := "\x05"
		if text[0] == 0x0b || text[0] == 0x0d || strings.HasPrefix(text, bind) {
			passed.WriteString(agentMessage(text))
			answer = "\x0cyes"
		}
		answers.WriteString(agentMessage(answer))
	}
	client := &dialogue{Reader: strings.NewReader(requests.String())}
	up := &dialogue{Reader: strings.NewReader(strings.Repeat(agentMessage("\x0cyes"), 4))}
	if err := relayAgent(client, up); err != io.EOF {
		t.Errorf("it ended with %v", err)
	}
	if up.String() != passed.String() || client.String() != answers.String() {
		t.Errorf("the agent was asked\n%q\nwant\n%q\nthe client has\n%q\nwant\n%q", up.String(), passed.String(), client.String(), answers.String())
	}
}

func FuzzRelayAgent(f *testing.F) {
	f.Add([]byte(agentMessage("\x0b") + agentMessage("\x1b\x00\x00\x00\x05query")))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff\x0b"))
	f.Fuzz(func(t *testing.T, requests []byte) {
		up := &dialogue{Reader: strings.NewReader(agentMessage("\x0c"))}
		if err := relayAgent(&dialogue{Reader: bytes.NewReader(requests)}, up); err == nil {
			t.Error("it never ends")
		}
		for rest := up.Bytes(); len(rest) > 0; {
			message, err := readAgentMessage(bytes.NewReader(rest))
			if err != nil || !agentMay(message[4:]) {
				t.Fatalf("passed on %q: %v", message, err)
			}
			rest = rest[len(message):]
		}
	})
}
