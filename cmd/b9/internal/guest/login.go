package guest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/engine/tool"
)

// sshPort is that of sshd in the guest.
const sshPort = 22

// login is a key for one run of a machine, and what is known of the machine's own.
type login struct {
	dir, user string
	public    string // as authorized_keys has it
	held      bool   // a debugger may hold the guest for as long as it likes
}

// newLogin makes a key in a directory that only this user can enter.
func newLogin(dir, user string) (*login, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "b9 run")
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	l := &login{dir: dir, user: user, public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))}
	return l, os.WriteFile(filepath.Join(dir, keyFile), pem.EncodeToMemory(block), 0o600)
}

// credentials let the key in: systemd-tmpfiles writes them where sshd looks.
func (l *login) credentials() map[string]string {
	return map[string]string{"ssh.authorized_keys.root": l.public}
}

// Files of a login, by which ssh knows them: it splits paths at blanks, and expands signs in
// them, so that it is started where they are.
const (
	keyFile    = "key"
	knownHosts = "known_hosts"
)

// command is ssh's command line, without what of ssh is the user's own.
func (l *login) command(ctx context.Context, path string, port int, words ...string) *exec.Cmd {
	args := []string{
		"-F", "none", "-i", keyFile, "-p", strconv.Itoa(port), "-l", l.user,
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "UserKnownHostsFile=" + knownHosts, "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=accept-new",
	}
	if !l.held {
		// A guest that was reset says nothing more.
		args = append(args, "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8")
	}
	args = append(append(args, "127.0.0.1"), words...)
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // that is its purpose
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Dir = l.dir
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// login runs a command in the machine, or a shell, and passes its status on.
func (r *running) login(ctx context.Context, in *login, argv []string) error {
	path, err := tool.Find("ssh")
	if err != nil {
		return err
	}
	said := &lastLines{also: r.session.Verbose, console: r.session.Console}
	read := make(chan struct{})
	go func() {
		defer close(read)
		said.readFrom(r)
	}()
	defer func() {
		r.end()
		<-read
	}()
	port, err := r.reach(ctx, in, path, said)
	if err != nil {
		return err
	}
	err = r.command(ctx, in, path, port, argv, said)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if serr := r.switchOff(ctx); err == nil {
		err = serr
	}
	return err
}

// command runs a command in the machine, or a shell; its status is an error of package exit.
func (r *running) command(ctx context.Context, in *login, path string, port int, argv []string, said *lastLines) error {
	words := make([]string, len(argv))
	for i, w := range argv {
		words[i] = display.ShellWord(w)
	}
	up, done := whileUp(ctx, r.Down(), lastWords)
	defer done()
	cmd := in.command(up, path, port, words...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.session.In, r.session.Out, r.session.Err
	err := cmd.Run()
	var status *exec.ExitError
	switch {
	case err != nil && (errors.Is(context.Cause(up), errOff) || r.Died() != nil):
		err = r.went("before the command ended", said)
	case errors.As(err, &status) && status.ExitCode() >= 0:
		err = exit.Status(status.ExitCode())
	}
	if serr := r.screenshot(); err == nil {
		err = serr
	}
	return err
}

// lastWords is how long what a guest that is off has sent may be on its way.
const lastWords = 5 * time.Second

// errOff says that a machine went off.
var errOff = errors.New("the machine went off")

// whileUp is a context that ends some time after a machine is off, with errOff: its
// connections stay open then, and nothing comes through them any more. The caller calls done.
func whileUp(ctx context.Context, down <-chan struct{}, patience time.Duration) (_ context.Context, done func()) {
	up, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-down:
		case <-up.Done():
			return
		}
		select {
		case <-time.After(patience):
			cancel(errOff)
		case <-up.Done():
		}
	}()
	return up, func() {
		cancel(nil)
		<-ended
	}
}

// mostAttempt is how long an attempt to get in may take, which may begin before the guest
// is reset.
const mostAttempt = 2 * time.Minute

// sayAfter is when the user hears that a machine is still starting.
const sayAfter = time.Minute

// reach waits until the key is let in, and returns the port.
func (r *running) reach(ctx context.Context, l *login, path string, said *lastLines) (int, error) {
	ports, err := r.Ports(ctx)
	if err != nil {
		return 0, err
	}
	port, began, told := ports[sshPort], time.Now(), false
	up, done := whileUp(ctx, r.Down(), lastWords)
	defer done()
	for {
		var refusal string
		if greets(port) {
			var in bool
			if in, refusal = l.attempt(up, path, port); in {
				return port, nil
			}
		}
		if !told && time.Since(began) > sayAfter {
			told = true
			r.session.Tell("no ssh yet%s; the console says: %s", because(refusal), said.last())
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-r.Down():
			return 0, r.went("before ssh answered"+because(refusal), said)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// went says that the machine is off, or else what QEMU died of.
func (r *running) went(when string, said *lastLines) error {
	if err := r.Died(); err != nil {
		return fmt.Errorf("%w, %s", err, when)
	}
	return fmt.Errorf("%w %s; its console ended with: %s", errOff, when, said.last())
}

// attempt reports whether the key is let in, and what was said if it is not.
func (l *login) attempt(ctx context.Context, path string, port int) (in bool, refusal string) {
	ctx, cancel := context.WithTimeout(ctx, mostAttempt)
	defer cancel()
	var errs bytes.Buffer
	cmd := l.command(ctx, path, port, "true")
	cmd.Stderr = &errs
	err := cmd.Run()
	return err == nil, strings.TrimSpace(errs.String())
}

func because(refusal string) string {
	if refusal == "" {
		return ""
	}
	return " (" + refusal + ")"
}

// greets reports whether sshd answers. The port itself is QEMU's, and always open.
func greets(port int) bool {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // a machine without KVM takes its time
	buf := make([]byte, 4)
	n, err := conn.Read(buf)
	return err == nil && strings.HasPrefix("SSH-", string(buf[:n])) && n > 0
}

// lastLines keeps the end of a console that nobody sees.
type lastLines struct {
	also    bool // print it
	console interface{ Write([]byte) (int, error) }

	mu   sync.Mutex
	said []byte
}

func (l *lastLines) readFrom(r *running) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Console.Read(buf)
		if l.also {
			_, _ = l.console.Write(buf[:n]) // for people
		}
		l.mu.Lock()
		l.said = append(l.said, buf[:n]...)
		l.said = l.said[max(0, len(l.said)-4096):]
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// last is the last line with something in it.
func (l *lastLines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.FieldsFunc(string(l.said), func(c rune) bool { return c == '\n' || c == '\r' })
	for i := len(lines) - 1; i >= 0; i-- {
		if text := strings.TrimSpace(lines[i]); text != "" {
			return strconv.Quote(text)
		}
	}
	return "nothing"
}
