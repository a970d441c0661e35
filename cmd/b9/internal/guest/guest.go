// Package guest has a machine on a terminal: `b9 run` of what is a machine.
//
//	Options  what the command line says about it
//	Machine  what is started
//	Disk     a machine for a disk that comes without one
//	Run      starts it, and stays with it until it ends
//
// It hides how the terminal and the machine's console go together, and how ssh gets in.
// What a machine is made of, it is given; QEMU is package qemu's.
package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/qemu"
)

// Machine is what is started.
type Machine struct {
	Title   string      // for messages
	Machine *vm.Machine // with absolute paths
	Keep    string      // where the machine's own files are, which it writes; "" throws away what it writes
}

// Run starts a machine, and ends when it does. With ssh it ends with the command, or the
// shell, and passes the status on.
func Run(ctx context.Context, s *session.Session, g Machine, o Options, argv []string) (err error) {
	own, err := o.change(s, g.Machine)
	if err != nil {
		return err
	}
	if o.DryRun {
		return o.print(ctx, s, own, g.Keep)
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	scratch, err := st.Scratch(g.Title + " machine")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	with := o.start(scratch.Dir(), g.Keep)
	var in *login
	if o.SSH {
		if in, err = newLogin(scratch.Dir(), cmp.Or(o.User, "root")); err != nil {
			return err
		}
		in.held = o.GDB
		with.Credentials = in.credentials()
	}
	var slow string
	if with.Accel, slow = qemu.Accelerator(ctx); slow != "" {
		s.Tell("%s: %s", g.Title, slow)
	}
	r, err := qemu.Start(ctx, own, with)
	if err != nil {
		return fmt.Errorf("%s: %w", g.Title, err)
	}
	defer r.Close()
	if err := o.tell(ctx, s, r); err != nil {
		return fmt.Errorf("%s: %w", g.Title, err)
	}
	run := &running{Running: r, session: s, options: o, kept: g.Keep != ""}
	if in != nil {
		return run.login(ctx, in, argv)
	}
	return run.attach(ctx)
}

// print prints QEMU's command line, and before it what starts a TPM.
func (o *Options) print(ctx context.Context, s *session.Session, m *vm.Machine, keep string) error {
	with := o.start("", keep)
	with.Accel, _ = qemu.Accelerator(ctx)
	lines, err := qemu.Lines(m, with)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, words := range lines {
		for i, w := range words {
			words[i] = display.ShellWord(w)
		}
		fmt.Fprintln(&text, strings.Join(words, " "))
	}
	_, err = io.WriteString(s.Out, text.String())
	return err
}

// tell says where what the machine offers is to be found.
func (o *Options) tell(ctx context.Context, s *session.Session, r *qemu.Running) error {
	if len(o.forwards) > 0 {
		ports, err := r.Ports(ctx)
		if err != nil {
			return err
		}
		for _, f := range o.forwards {
			s.Tell("port %d of the guest is 127.0.0.1:%d", f.Guest, ports[f.Guest])
		}
	}
	for _, share := range o.shares {
		s.Tell("share %s: mount -t 9p -o trans=virtio %s /mnt", share.Dir, share.Tag)
	}
	if r.GDB != "" {
		s.Tell("the machine waits for a debugger: gdb -ex %s", display.ShellWord("target remote "+r.GDB))
	}
	at, err := r.Viewer(ctx, o.Screen)
	if err == nil && at != "" {
		s.Tell("the screen is %s", at)
	}
	return err
}

// running is a machine, and who started it.
type running struct {
	*qemu.Running
	session *session.Session
	options Options
	kept    bool
}

// screenshot takes the picture that was asked for, if one was.
func (r *running) screenshot() error {
	if r.options.Screenshot == "" {
		return nil
	}
	file, err := r.session.Path(r.options.Screenshot)
	if err != nil {
		return err
	}
	// The command may be over, and a screen takes no time.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := r.Screenshot(ctx, file); err != nil {
		return fmt.Errorf("--screenshot %s: %w", r.options.Screenshot, err)
	}
	return os.Chmod(file, 0o666&^r.session.Umask)
}

// end ends the machine, and says so where that lasts.
func (r *running) end() {
	slow := time.AfterFunc(10*time.Second, func() {
		r.session.Tell("QEMU has yet to write what the machine wrote to its disks")
	})
	defer slow.Stop()
	r.End()
}

// switchOff has the guest end by itself, if it keeps what it writes, and waits for it.
func (r *running) switchOff(ctx context.Context) error {
	if !r.kept {
		return nil
	}
	if isClosed(r.Down()) {
		return r.Died()
	}
	if err := r.PowerDown(ctx); err != nil {
		return cmp.Or(r.Died(), err)
	}
	for patience := time.After(sayAfter); ; {
		select {
		case <-r.Down():
			return r.Died()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience:
			r.session.Tell("the guest was told to switch itself off, and has not yet; Ctrl-C ends it as it is")
		}
	}
}

// Options are what the command line says about a machine.
type Options struct {
	SSH, Persist, Snapshot, DryRun, GDB, Machine bool
	Forward                                      []string
	Screen, Screenshot, Firmware                 string

	// What the flags say that commands in images have, too.
	Network, Memory, User string
	Share                 []string

	forwards []qemu.Forward
	shares   []vm.Share
}

// start is how the machine is started.
func (o *Options) start(scratch, keep string) qemu.Options {
	n := qemu.Network{Kind: o.Network, Forwards: o.forwards}
	if o.SSH {
		n.Forwards = append(n.Forwards[:len(n.Forwards):len(n.Forwards)], qemu.Forward{Guest: sshPort})
	}
	return qemu.Options{Scratch: scratch, Keep: keep, Network: n, Screen: o.Screen, GDB: o.GDB}
}

// Check says what is wrong with the flags, whatever the machine is.
func (o *Options) Check(s *session.Session) error {
	if err := qemu.CheckNetwork(o.Network); err != nil {
		return exit.Usagef("--network %w", err)
	}
	if o.Firmware != "" {
		if err := command.Choice("firmware", o.Firmware, vm.Firmwares()); err != nil {
			return err
		}
	}
	inside := o.Network == "" || o.Network == "user"
	switch {
	case o.Persist && o.Snapshot:
		return exit.Usagef("--persist keeps what the machine writes, and --snapshot throws it away: give one of them")
	case o.SSH && !inside:
		return exit.Usagef("--ssh gets in through a user network, and the network is %q", o.Network)
	case len(o.Forward) > 0 && !inside:
		return exit.Usagef("--forward lends ports to a user network, and the network is %q", o.Network)
	}
	o.forwards, o.shares = nil, nil
	for _, text := range o.Forward {
		f, err := qemu.ParseForward(text)
		if err != nil {
			return exit.Usagef("--forward %w", err)
		}
		o.forwards = append(o.forwards, f)
	}
	for _, text := range o.Share {
		share, err := readShare(s, text)
		if err != nil {
			return err
		}
		o.shares = append(o.shares, share)
	}
	_, err := o.memory()
	return err
}

// Given is the first flag that only machines have, of those that are given; "" for none.
func (o *Options) Given() string {
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"--ssh", o.SSH}, {"--persist", o.Persist}, {"--snapshot", o.Snapshot}, {"--dry-run", o.DryRun}, {"--gdb", o.GDB}, {"--machine", o.Machine}, {"--firmware", o.Firmware != ""},
		{"--forward", len(o.Forward) > 0}, {"--display " + o.Screen, o.Screen != ""}, {"--screenshot", o.Screenshot != ""},
	} {
		if f.given {
			return f.name
		}
	}
	return ""
}

// readShare reads DIR, DIR:TAG, DIR:ro or DIR:TAG:ro.
func readShare(s *session.Session, text string) (vm.Share, error) {
	rest, readOnly := strings.CutSuffix(text, ":ro")
	dir, tag, tagged := strings.Cut(rest, ":")
	if dir == "" || tagged && (tag == "" || strings.ContainsAny(tag, "/:")) {
		return vm.Share{}, exit.Usagef("--share %s: want DIR, DIR:TAG or DIR:TAG:ro, with the tag that the guest mounts it by", text)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(s.Dir, dir)
	}
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		return vm.Share{}, exit.Usagef("--share %s: %w", text, err)
	}
	return vm.Share{Tag: cmp.Or(tag, filepath.Base(dir)), Dir: dir, Writable: !readOnly}, nil
}
