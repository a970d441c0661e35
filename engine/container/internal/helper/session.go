// Package helper is what the container backends have in common: a process 1 of
// the container, which is this program run again, and the caller's side of it.
//
// A backend starts process 1 in namespaces of its own and calls [Run] (session.go),
// which attaches loop devices, makes the mounts (image.go, loop.go, mount.go, served.go)
// and hands them over a socket (wire.go). The helper puts them together (helper.go,
// rootfs.go, layer.go, covers.go), runs the command with libcontainer (runtime.go, pid1.go,
// cgroup.go) and tells how it ended. What outlives its owner bears the owner's
// tag (owner.go).
package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/nat"
	"b9.build/b9/engine/container/secret"
	"b9.build/b9/engine/size"
)

// killLimit is how much longer than the grace ending a container may take
// before it is killed from outside.
const killLimit = 30 * time.Second

// FirstProcess is what a backend provides: a process 1 in namespaces of its own.
type FirstProcess interface {
	// Complete adds to the request what depends on the backend.
	Complete(*Request)
	// Kill ends all processes at once. It may be called at any time.
	Kill()
	// Wait returns when the container is gone, with what the helper
	// complained of, and whether the backend failed during the run. With a context
	// that is done it hurries.
	Wait(context.Context) (complaint string, broken bool)
}

// launch starts a container whose process 1 is the helper, with the wire as
// its descriptor. It closes remote.
type launch func(ctx context.Context, remote *os.File) (FirstProcess, error)

// ends connect the command to what the caller has: streams, or a terminal.
type ends interface {
	// files are the command's standard streams, none for a terminal.
	files() []*os.File
	// handOver closes the files here, after they were sent.
	handOver()
	// finish waits for the last output. It needs the processes to be gone.
	finish() error
}

// session is the caller's side of one run.
type session struct {
	spec         container.Spec
	stage        *stage
	standing     standing
	loan         *loan // nil where nothing is lent
	ends         ends
	terminal     *terminal // ends, if they are one
	firstProcess FirstProcess
	network      *nat.Network // nil for another than a private one
	wire         *wire
	config       container.Config
	started      chan struct{} // closed when the command runs
}

// Run runs a normalized spec in a container that start makes. It is an error
// where Main was not called.
func Run(ctx context.Context, c container.Config, spec container.Spec, to container.IO, start launch) (container.Result, error) {
	if ctx.Err() != nil {
		return container.Result{Reason: container.Cancelled, Code: -1}, nil
	}
	if err := checkMain(); err != nil {
		return Failed, err
	}
	s := &session{spec: spec, config: c, started: make(chan struct{})}
	res, err := s.run(ctx, to, start)
	if err != nil && res.Reason != container.BackendLost && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return container.Result{Reason: container.Cancelled, Code: -1}, nil
	}
	return res, err
}

func (s *session) run(ctx context.Context, to container.IO, start launch) (res container.Result, err error) {
	if s.standing, err = newStanding(ctx, &s.spec); err != nil {
		return Failed, err
	}
	defer s.standing.end()
	if s.spec.Mounts, err = recognise(s.spec.Mounts, s.config.FileSystems); err != nil {
		return Failed, err
	}
	wire, remote, err := newWires()
	if err != nil {
		return Failed, err
	}
	defer wire.close()
	s.wire = wire
	launched := s.launch(ctx, start, remote)
	defer func() { err = errors.Join(err, s.stage.release()) }()
	defer func() { err = errors.Join(err, s.loan.release()) }()
	defer func() { err = errors.Join(err, s.closeNetwork()) }()
	req, flush, err := s.prepare(ctx, to)
	if s.ends != nil {
		defer func() { err = errors.Join(err, s.ends.finish(), flush()) }()
	}
	if failed := <-launched; failed != nil {
		s.handOver()
		return Failed, cmp.Or(err, failed)
	}
	if err != nil {
		s.handOver()
		return s.unused(ctx, err)
	}
	s.firstProcess.Complete(req)
	return s.converse(ctx, req)
}

// launch starts process 1, which comes up while the images are mounted and waits for
// what it is to run. What is sent says how that went, when firstProcess is set.
func (s *session) launch(ctx context.Context, start launch, remote *os.File) <-chan error {
	launched := make(chan error, 1)
	go func() {
		var err error
		s.firstProcess, err = start(ctx, remote)
		launched <- err
	}()
	return launched
}

// prepare makes everything that the container gets. What is made when it fails is
// released by the caller, as if it had not.
func (s *session) prepare(ctx context.Context, to container.IO) (req *Request, flush func() error, err error) {
	if s.stage, err = newStage(ctx, s.spec.Mounts, s.config); err != nil {
		return nil, nil, err
	}
	if s.loan, err = newLoan(ctx, &s.spec); err != nil {
		return nil, nil, err
	}
	to, flush = masked(to, secret.Masking(s.loan.secrets(), s.spec.Masked))
	req, err = s.newRequest(to)
	return req, flush, err
}

// handOver closes what the container has, or shall not get.
func (s *session) handOver() {
	s.stage.handOver()
	s.loan.handOver()
	if s.ends != nil {
		s.ends.handOver()
	}
}

// unused ends a process 1 that gets nothing to run.
func (s *session) unused(ctx context.Context, why error) (container.Result, error) {
	s.kill()
	_, _ = s.wait(ctx)
	return Failed, why
}

// Failed is the result beside an error.
var Failed = container.Result{Reason: container.Exited, Code: -1}

func (s *session) newRequest(to container.IO) (*Request, error) {
	req := &Request{Spec: s.spec, Secrets: s.loan.secrets()}
	s.standing.complete(req)
	err := s.addNetwork(req, to.Lent)
	if err != nil {
		return nil, err
	}
	if to.TTY == nil {
		streams, err := newStreams(to)
		if err != nil {
			return nil, err
		}
		s.ends = streams
		return req, nil
	}
	if s.terminal, err = newTerminal(to.TTY); err != nil {
		return nil, err
	}
	s.ends = s.terminal
	req.Console = s.terminal.size()
	return req, nil
}

// addNetwork makes the container's network, if it is a private one, and says what is
// known there of the host's.
func (s *session) addNetwork(req *Request, lent []netip.AddrPort) (err error) {
	if s.spec.Network == container.NetworkNone {
		return nil
	}
	if req.ResolvConf, req.Hosts, err = hostFiles(); err != nil || s.spec.Network != container.NetworkNAT {
		return err
	}
	if s.network, err = nat.Open(nat.Config{ResolvConf: req.ResolvConf, Lent: lent, Namespace: s.standing.network()}); err != nil {
		return err
	}
	req.ResolvConf, req.NetFile = s.network.ResolvConf(), true
	return nil
}

// closeNetwork takes the private network away, when the container is gone.
func (s *session) closeNetwork() error {
	if s.network == nil {
		return nil
	}
	return s.network.Close()
}

// namespaces are files of the namespaces that the container joins.
func (s *session) namespaces() []*os.File {
	if s.network == nil {
		return nil
	}
	return []*os.File{s.network.Namespace()}
}

// converse sends the request and follows the run to its end, when the
// container is gone.
func (s *session) converse(ctx context.Context, req *Request) (container.Result, error) {
	sent := s.wire.send(message{Request: req}, slices.Concat(s.stage.trees, s.loan.files(), s.ends.files(), s.namespaces(), s.standing.files())...)
	s.handOver()
	if sent != nil {
		return s.untold(ctx, sent)
	}
	outcomes := make(chan *outcome, 1)
	go func() { outcomes <- s.listen() }()
	out, why := s.supervise(ctx, outcomes)
	var detaching errgroup.Group
	if out == nil {
		s.kill()
	} else {
		detaching.Go(s.stage.release) // what was mounted is unmounted: nobody has to end for that
	}
	complaint, broken := s.wait(ctx)
	res, err := s.ended(out, why, complaint, broken)
	return res, errors.Join(err, detaching.Wait())
}

// ended tells how the run went, from its outcome, if there is one.
func (s *session) ended(out *outcome, why container.Reason, complaint string, broken bool) (container.Result, error) {
	if out == nil || (broken && out.Signal != 0 && !out.Stopped) {
		return s.lost(why, nil, complaint)
	}
	return result(out, why)
}

// untold ends a container that does not know what to run: it would wait for that,
// and this side for its outcome.
func (s *session) untold(ctx context.Context, why error) (container.Result, error) {
	s.kill()
	complaint, _ := s.wait(ctx)
	return s.lost(container.Exited, fmt.Errorf("tell the container what to run: %w", why), complaint)
}

// wait returns when the container is gone, which it is soon: it has been killed, or has
// told its outcome, which is the last that it does.
func (s *session) wait(ctx context.Context) (complaint string, broken bool) {
	late := time.AfterFunc(killLimit, s.kill)
	defer late.Stop()
	return s.firstProcess.Wait(ctx)
}

// kill ends the container from outside. Without its wire the helper ends it
// from inside, should the backend have failed to.
func (s *session) kill() {
	s.firstProcess.Kill()
	s.wire.close()
}

// listen returns the outcome, nil when there is none any more.
func (s *session) listen() *outcome {
	for {
		m, files, err := s.wire.receive()
		switch {
		case err != nil:
			return nil
		case m.Outcome != nil:
			closeAll(files)
			return m.Outcome
		case m.Started != nil:
			closeAll(files)
			close(s.started)
		case m.Nodes != nil && len(files) == 1:
			if err := s.standing.serve(files[0]); err != nil {
				return s.unable(err)
			}
		case m.Console != nil && len(files) == 1 && s.terminal != nil:
			if err := s.terminal.connect(files[0]); err != nil {
				return s.unable(err)
			}
		default:
			closeAll(files)
		}
	}
}

// unable is the outcome of a run for which this side can't do its part. The container,
// which has its images still, is ended.
func (s *session) unable(why error) *outcome {
	s.kill()
	return &outcome{Error: why.Error(), Code: -1}
}

// supervise waits for the outcome, and sees to it that there is one in time
// once the run is cancelled or takes too long. The reason is why the command
// was asked to stop, Exited if it was not.
func (s *session) supervise(ctx context.Context, outcomes <-chan *outcome) (*outcome, container.Reason) {
	var timeout <-chan time.Time
	began := s.started
	why := container.Exited
	for why == container.Exited {
		select {
		case out := <-outcomes:
			return out, why
		case <-began:
			began = nil
			if s.spec.Timeout > 0 {
				timer := time.NewTimer(s.spec.Timeout)
				defer timer.Stop()
				timeout = timer.C
			}
		case <-ctx.Done():
			why = container.Cancelled
		case <-timeout:
			why = container.TimedOut
		}
	}
	if s.wire.send(message{Stop: &stop{Grace: s.spec.Grace}}) != nil {
		s.kill() // it can't be asked
		return <-outcomes, why
	}
	limit := time.NewTimer(s.spec.Grace + killLimit)
	defer limit.Stop()
	select {
	case out := <-outcomes:
		return out, why
	case <-limit.C:
		s.kill()
		return <-outcomes, why
	}
}

// lost explains a container that ended without an outcome. It need not have
// one after it was asked to stop.
func (s *session) lost(why container.Reason, sent error, complaint string) (container.Result, error) {
	if why != container.Exited {
		return container.Result{Reason: why, Code: -1}, nil
	}
	err := errors.New("container ended without a result: something outside has killed it")
	switch {
	case complaint != "":
		err = fmt.Errorf("container ended without a result: %s", complaint)
	case s.spec.Memory > 0:
		err = fmt.Errorf("%w, or its own first process ran out of memory: the limit is %v", err, size.Bytes(s.spec.Memory))
	}
	return container.Result{Reason: container.BackendLost, Code: -1}, errors.Join(err, sent)
}

func result(out *outcome, why container.Reason) (container.Result, error) {
	res := container.Result{Code: out.Code, Duration: out.Duration, MaxRSS: out.MaxRSS, Leaks: out.Leaks, Searched: out.Searched, Untouched: out.Untouched}
	switch {
	case out.Stopped:
		res.Reason = why
	case out.OutOfMemory:
		res.Reason = container.OutOfMemory
	case out.Signal != 0:
		res.Reason = container.Signalled
	}
	if out.Signal != 0 {
		res.Signal = signalName(out.Signal)
	}
	var errs []error
	if out.Error != "" {
		errs = append(errs, errors.New(out.Error))
	}
	if out.Start != nil {
		errs = append(errs, out.Start)
	}
	if out.Damage != "" {
		errs = append(errs, errors.New(out.Damage))
	}
	return res, errors.Join(errs...)
}

func signalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", n)
}
