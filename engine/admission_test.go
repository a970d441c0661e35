package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// greedy writes its text, and may use that much.
type greedy struct {
	Text   string
	Memory int64
	CPUs   float64

	Await func(context.Context) `key:"-"`
}

func (g *greedy) Kind() string { return "greedy/1" }

func (g *greedy) Run(ctx context.Context, job *engine.Job) error {
	return (&join{Text: g.Text, Await: g.Await}).Run(ctx, job)
}

func (g *greedy) Limits() (int64, float64) { return g.Memory, g.CPUs }

// crowd counts how many are in it at once. Who enters stays until as many as
// fit have been there together.
type crowd struct {
	now, most atomic.Int32
	full      chan struct{}
	once      sync.Once
	fits      int32
}

func newCrowd(fits int32) *crowd { return &crowd{full: make(chan struct{}), fits: fits} }

func (c *crowd) visit(ctx context.Context) {
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	if n >= c.fits {
		c.once.Do(func() { close(c.full) })
	}
	select {
	case <-c.full:
	case <-ctx.Done():
	}
}

func TestLimitsOfRunningStepsFitTheMachine(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		memory int64
		cpus   float64
		fits   int32
	}{
		"memory":     {memory: 4 * gib, fits: 2},
		"processors": {cpus: 2.5, fits: 3},
		"both":       {memory: gib, cpus: 7.5, fits: 1},
		"neither":    {fits: 6},
		"too large":  {memory: 64 * gib, fits: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b, crowd := newBench(t), newCrowd(c.fits)
			var refs []engine.Ref
			for i := range 6 {
				refs = append(refs, node(t, fmt.Sprintf("//:%d", i), &greedy{fmt.Sprint(i), c.memory, c.cpus, crowd.visit}))
			}
			e := b.engine(engine.Config{Jobs: 6, Machine: engine.Machine{Memory: 10 * gib, CPUs: 8}})
			if _, err := e.Build(t.Context(), refs...); err != nil {
				t.Fatal(err)
			}
			if got := crowd.most.Load(); got != c.fits {
				t.Errorf("%d steps ran at once, want %d", got, c.fits)
			}
		})
	}
}

// What waits for memory takes no slot from others, and a cancelled build leaves
// nothing taken.
func TestWaitingForMemoryHoldsUpNoOther(t *testing.T) {
	b, crowd := newBench(t), newCrowd(2)
	large := func(i int) engine.Ref {
		return node(t, fmt.Sprintf("//:large%d", i), &greedy{Text: fmt.Sprint(i), Await: crowd.visit, Memory: 8})
	}
	// The first large step goes on only when the small one runs beside it.
	small := node(t, "//:small", &greedy{Text: "s", Await: crowd.visit})
	e := b.engine(engine.Config{Jobs: 2, Machine: engine.Machine{Memory: 8, CPUs: 8}})
	if _, err := e.Build(t.Context(), large(0), large(1), large(2), small); err != nil {
		t.Fatal(err)
	}

	stuck := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	hold := func(ctx context.Context) { close(stuck); <-ctx.Done() }
	go func() { <-stuck; cancel() }()
	if _, err := e.Build(ctx, node(t, "//:stuck", &greedy{Text: "x", Await: hold, Memory: 8}), large(3)); err == nil {
		t.Error("a cancelled build has no error")
	}
	if _, err := e.Build(t.Context(), large(4)); err != nil {
		t.Errorf("after a cancelled build: %v", err)
	}
}

func TestThisMachine(t *testing.T) {
	meminfo := "MemTotal:        8388608 kB\nMemFree: 1 kB\n"
	many := engine.ThisMachine(fstest.MapFS{}).CPUs
	for name, c := range map[string]struct {
		files map[string]string
		want  engine.Machine
	}{
		"unlimited": {map[string]string{"proc/meminfo": meminfo}, engine.Machine{Memory: 8 << 30, CPUs: many}},
		"unknown":   {nil, engine.Machine{CPUs: many}},
		"version 2, a group above": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a.slice/b.scope\n",
			"sys/fs/cgroup/a.slice/memory.max": "1073741824\n", "sys/fs/cgroup/a.slice/cpu.max": "50000 100000\n",
			"sys/fs/cgroup/a.slice/b.scope/memory.max": "max\n", "sys/fs/cgroup/a.slice/b.scope/cpu.max": "max 100000\n",
		}, engine.Machine{Memory: 1 << 30, CPUs: 0.5}},
		"version 1": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "3:memory:/x\n2:cpu,cpuacct:/x\n0::/\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2147483648\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "25000\n", "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
		}, engine.Machine{Memory: 2 << 30, CPUs: 0.25}},
	} {
		root := fstest.MapFS{}
		for path, text := range c.files {
			root[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := engine.ThisMachine(root); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// While small outputs get onto the disk the step has left its slot: with one slot the
// next step runs meanwhile. A large output keeps it.
func TestAStepThatWaitsForTheDiskHasLeftItsSlot(t *testing.T) {
	for _, size := range []int{1, 1<<20 + 1} {
		b := newBench(t)
		var gate *os.File // of the store, which the first step locks against itself, as a collection does
		var ran atomic.Int32
		arrive := func(ctx context.Context) {
			if ran.Add(1) == 2 {
				gate.Close()
				return
			}
			var err error
			if gate, err = store.LockFile(ctx, filepath.Join(b.store.Dir(), "locks", "gate"), os.O_RDWR, nil); err != nil {
				t.Error(err)
			} else if size > 1 {
				time.AfterFunc(50*time.Millisecond, func() {
					if ran.Load() > 1 {
						t.Error("a step began while a large output was stored")
					}
					gate.Close()
				})
			}
		}
		text := strings.Repeat("x", size)
		one := node(t, "//:one", &join{Text: "1" + text, Await: arrive})
		two := node(t, "//:two", &join{Text: "2" + text, Await: arrive})
		if _, err := b.engine(engine.Config{Jobs: 1}).Build(t.Context(), one, two); err != nil {
			t.Fatal(err)
		}
	}
}

// counted tells of each time that it is asked for its tools, which is before a step waits.
type counted struct {
	Text  string
	Asked *atomic.Int32         `key:"-"`
	Await func(context.Context) `key:"-"`
}

func (c *counted) Kind() string { return "counted/1" }

func (c *counted) Run(ctx context.Context, job *engine.Job) error {
	return (&join{Text: c.Text, Await: c.Await}).Run(ctx, job)
}

func (c *counted) Tools() []engine.Tool { c.Asked.Add(1); return nil }

// TestWaitingStepsTakeNoGoroutine: of a large graph thousands of steps wait for a slot.
func TestWaitingStepsTakeNoGoroutine(t *testing.T) {
	const steps = 1200
	b := newBench(t)
	var asked, most atomic.Int32
	var refs []engine.Ref
	for i := range steps {
		run := func(context.Context) {
			for asked.Load() < steps {
				runtime.Gosched()
			}
			most.Store(max(most.Load(), int32(runtime.NumGoroutine())))
		}
		refs = append(refs, node(t, fmt.Sprintf("//:%d", i), &counted{fmt.Sprint(i), &asked, run}))
	}
	before := runtime.NumGoroutine()
	if _, err := b.engine(engine.Config{Jobs: 1}).Build(t.Context(), refs...); err != nil {
		t.Fatal(err)
	}
	if got := int(most.Load()) - before; got > steps/2 {
		t.Errorf("%d goroutines for %d steps of which one runs at a time", got, steps)
	}
}
