package display

import (
	"fmt"
	"testing"
	"time"

	"b9.build/b9/engine"
)

// TestCriticalPath names the longest steps of a long critical path, through one that was cached,
// and the slowest beside it.
func TestCriticalPath(t *testing.T) {
	s := newStage(t, Options{Mode: "plain"})
	ends := func(n *engine.Node, took time.Duration) *engine.Node {
		s.start(n)
		s.finish(n, took)
		return n
	}
	first := ends(node(t, "//:first", "fetch"), 9*time.Second)
	same := node(t, "//:same", "file", first)
	s.cached(same)
	second := ends(node(t, "//:second", "lxc_exec", same), time.Second)
	third := ends(node(t, "//:third", "lxc_exec", second), 3*time.Second)
	ends(node(t, "//:fourth", "lxc_exec", third), 2*time.Second)
	for i := range 5 {
		ends(node(t, fmt.Sprintf("//:beside%d", i), "fetch"), time.Duration(i)*time.Second)
	}
	s.out.Reset()
	s.Finish(Summary{Executed: 9, Cached: 1, Took: 20 * time.Second})
	s.expect("10 steps: 9 executed, 1 cached in 20.0 s\n" +
		"critical path 15.0 s: //:first 9.0 s, //:third 3.0 s, //:fourth 2.0 s and 1 step more; slowest beside it: //:beside4 4.0 s, //:beside3 3.0 s, //:beside2 2.0 s\n")
}

// TestRemaining foretells a build from what its steps took before.
func TestRemaining(t *testing.T) {
	asked := 0
	took := func() map[string]time.Duration {
		asked++
		return map[string]time.Duration{"//:base": time.Minute, "//:root": 2 * time.Minute, "//:disk": 10 * time.Second}
	}
	base := node(t, "//:base", "bootstrap")
	root := node(t, "//:root", "lxc_exec", base)
	disk, extra := node(t, "//:disk", "disk", root), node(t, "//:new", "file")
	s := newLive(t, Options{Took: took, Jobs: 2}, 80, 24)
	s.Event(engine.Event{Type: engine.GraphReady, Total: 4, Nodes: []*engine.Node{base, root, disk, extra}})
	s.start(extra)
	s.start(base)
	s.wait(time.Second)
	s.screen("[ 0/4] 2 running, 0 cached, 0:01\n  //:new   file  0:01\n  //:base  bootstrap  0:01\n")
	s.wait(9 * time.Second)
	s.screen("[ 0/4] 2 running, 0 cached, 0:10, more than 3:00 left\n  //:new   file  0:10\n  //:base  bootstrap  0:10\n")
	s.finish(extra, 10*time.Second)
	s.screen("//:new  file  done 10.0 s\n[ 1/4] 1 running, 0 cached, 0:10, about 3:00 left\n  //:base  bootstrap  0:10\n")
	s.wait(2 * time.Minute) // longer than it should take
	s.screen("//:new  file  done 10.0 s\n[ 1/4] 1 running, 0 cached, 2:10, about 2:10 left\n  //:base  bootstrap  2:10\n")
	s.finish(base, 130*time.Second)
	s.cached(root)
	s.start(disk)
	s.wait(9 * time.Second)
	s.screen("//:new  file  done 10.0 s\n//:base  bootstrap  done 2 min 10 s\n[ 3/4] 1 running, 1 cached, 2:19, about 0:01 left\n  //:disk  disk  0:09\n")
	s.wait(5 * time.Second)
	s.screen("//:new  file  done 10.0 s\n//:base  bootstrap  done 2 min 10 s\n[ 3/4] 1 running, 1 cached, 2:24\n  //:disk  disk  0:14\n")
	if asked != 1 {
		t.Errorf("the history was read %d times", asked)
	}
}
