package engine

import (
	"cmp"
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/store"
)

var errNoBackend = errors.New("no container backend is configured")

// Config is what an engine works with. Store is required.
type Config struct {
	Store *store.Store

	// Backend opens the container backend. It is called at most once, by
	// the first step that needs a container. nil means there is none.
	Backend func(context.Context) (container.Backend, error)

	// Workspace tells steps of one label apart that belong to different
	// workspaces: it is part of the names under which failed steps are kept
	// and of those by which Explain finds the last run. It is in no key.
	Workspace string

	// Cache has finished steps of other machines; nil means none.
	Cache Cache

	// Actions is the table of the actions that a [Trace] may hold beside those
	// of this package. A trace with a source of another kind never stands.
	Actions Actions

	// Services are what actions find with [Service], one of a type.
	Services []any

	// Rerun says of a step by its node that it is to be run in each build of
	// the engine though its result is known, once. nil means none.
	Rerun func(*Node) bool

	Jobs      int         // steps that run at once; 0 means the number of processors
	Machine   Machine     // what the limits of steps that run at once may come to (see [Limited]); 0 means what this machine has
	KeepGoing bool        // after a failure, still run what does not depend on it
	Events    func(Event) // may be nil
	TellParts bool        // events of steps that start or are found tell what their keys are made of
	Epoch     time.Time   // the time written into what steps make; the zero value means 1970-01-01T00:00:00Z
	Offline   bool        // see World
	Refresh   bool        // see World
}

// Engine makes nodes. It may be used by several goroutines.
type Engine struct {
	cfg    Config
	world  *World
	tools  *toolTable
	events func(Event)
	keys   sync.Pool // of *keyMaker

	admission  *admission
	committing *semaphore.Weighted // the places of steps that wait for the disk without a slot
	emptyLog   atomic.Pointer[store.Object]

	backendOnce sync.Once
	backendIs   container.Backend
	backendErr  error
}

// maxCommitting is how many steps are flushed at a time. Each has up to three files
// open.
const maxCommitting = 256

// New returns an engine. Close it when done.
func New(cfg Config) *Engine {
	if cfg.Jobs <= 0 {
		cfg.Jobs = runtime.NumCPU()
	}
	if cfg.Epoch.IsZero() {
		cfg.Epoch = time.Unix(0, 0).UTC()
	}
	e := &Engine{
		cfg:    cfg,
		world:  &World{Store: cfg.Store, Offline: cfg.Offline, Refresh: cfg.Refresh, Services: cfg.Services},
		tools:  newToolTable(cfg.Store),
		events: func(Event) {},

		admission:  newAdmission(cfg.Jobs, cfg.machine),
		committing: semaphore.NewWeighted(maxCommitting),
	}
	e.world.tools = e.tools
	if cfg.Events != nil {
		var mu sync.Mutex
		e.events = func(ev Event) {
			mu.Lock()
			defer mu.Unlock()
			cfg.Events(ev)
		}
	}
	return e
}

// machine is what the steps share: what is configured, else what this machine has.
func (c *Config) machine() Machine {
	here := ThisMachine(os.DirFS("/"))
	return Machine{Memory: cmp.Or(c.Machine.Memory, here.Memory), CPUs: cmp.Or(c.Machine.CPUs, here.CPUs)}
}

// Close writes down what the engine learned about the host's tools. The
// store stays open.
func (e *Engine) Close() error { return e.tools.save() }

func (e *Engine) backend(ctx context.Context) (container.Backend, error) {
	e.backendOnce.Do(func() {
		if e.cfg.Backend == nil {
			e.backendErr = errNoBackend
			return
		}
		e.backendIs, e.backendErr = e.cfg.Backend(ctx)
	})
	return e.backendIs, e.backendErr
}

// workspaceMark stands between a label and its workspace.
const workspaceMark = " in "

// stepName is the name under which the store knows the step with that label.
func (e *Engine) stepName(label string) string { return StepName(label, e.cfg.Workspace) }

// StepName is the name under which the store knows the step with that label of
// a workspace.
func StepName(label, workspace string) string {
	if workspace == "" {
		return label
	}
	return label + workspaceMark + workspace
}

// SplitStepName splits such a name into the label and the workspace.
func SplitStepName(name string) (label, workspace string) {
	if i := strings.Index(name, workspaceMark+"/"); i >= 0 {
		return name[:i], name[i+len(workspaceMark):]
	}
	return name, ""
}

// key computes the key of n, in buffers that are used again.
func (e *Engine) key(n *Node, in keyInput) (store.Digest, error) {
	m, ok := e.keys.Get().(*keyMaker)
	if !ok {
		m = new(keyMaker)
	}
	defer e.keys.Put(m)
	return m.key(n, in)
}
