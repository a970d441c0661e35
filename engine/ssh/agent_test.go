package ssh

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/ssh/config"
)

// TestAgentThatIsSilent accepts the connection and never answers: the end of the login's
// time, or an interruption, ends the wait, whether it comes before the agent was
// reached or later.
func TestAgentThatIsSilent(t *testing.T) {
	for _, early := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "agent")
		silent, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		server, far := net.Pipe()
		defer far.Close()
		l := &login{host: &config.Host{Agent: path}, o: &Options{}}
		cut := l.cut(server)
		if early {
			cut()
		} else {
			go func() {
				// The agent was reached when it has something to read.
				if c, err := silent.Accept(); err == nil {
					defer c.Close()
					c.Read(make([]byte, 1))
					cut()
				}
			}()
		}
		if got := l.agentSigners(t.Context()); len(got) != 0 || !strings.Contains(strings.Join(l.tried, ""), "no agent") {
			t.Errorf("cut early %t: %v, noted %q", early, got, l.tried)
		}
		server.Close()
	}
}
