package helper

import (
	"testing"
	"testing/synctest"
	"time"

	"b9.build/b9/engine/container"
)

// TestTimeoutBeginsWithTheCommand lets an hour pass before the command runs, and
// then one that is too slow.
func TestTimeoutBeginsWithTheCommand(t *testing.T) {
	for _, c := range []struct {
		slow bool
		want container.Reason
	}{{false, container.Exited}, {true, container.TimedOut}} {
		synctest.Test(t, func(t *testing.T) {
			w, remote, err := newWires()
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			defer remote.Close()
			s := &session{spec: container.Spec{Timeout: time.Second}, wire: w, started: make(chan struct{})}
			outcomes := make(chan *outcome)
			go func() {
				time.Sleep(time.Hour)
				close(s.started)
				if c.slow {
					time.Sleep(2 * time.Second)
				}
				outcomes <- &outcome{}
			}()
			if _, why := s.supervise(t.Context(), outcomes); why != c.want {
				t.Errorf("ended because it %v, want %v", why, c.want)
			}
		})
	}
}
