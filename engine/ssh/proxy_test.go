package ssh

import (
	"fmt"
	"net"
	"sync"
	"testing"
)

// stoppable passes TCP connections on until it is told to stop.
type stoppable struct {
	port   int
	mu     sync.Mutex
	conns  []net.Conn
	frozen bool
}

// newStoppable listens in front of a port of this machine.
func newStoppable(t *testing.T, to int) *stoppable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stoppable{port: l.Addr().(*net.TCPAddr).Port}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				in.Close()
				continue
			}
			s.mu.Lock()
			s.frozen = false
			s.conns = append(s.conns, in, out)
			s.mu.Unlock()
			running.Go(func() { s.pass(in, out) })
			running.Go(func() { s.pass(out, in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.cut()
		running.Wait()
	})
	return s
}

// pass copies one way; what comes while frozen is dropped.
func (s *stoppable) pass(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 1<<15)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		s.mu.Lock()
		frozen := s.frozen
		s.mu.Unlock()
		if frozen {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// freeze lets the connections stand and passes nothing on.
func (s *stoppable) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = true
}

// cut ends the connections.
func (s *stoppable) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}
