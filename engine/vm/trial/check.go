package trial

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"b9.build/b9/engine/vm/qemu"
)

// The kinds of checks.
const (
	kindConsole  = "console"  // a text comes on the console
	kindCommand  = "run"      // a command in the machine ends so
	kindHTTP     = "http"     // a server in the machine answers so
	kindReboot   = "reboot"   // the machine starts anew when it is told to
	kindPoweroff = "poweroff" // the machine goes off when it is told to
)

// kinds are those of [Check].
func kinds() []string { return []string{kindConsole, kindCommand, kindHTTP, kindReboot, kindPoweroff} }

// Check is one check. Which fields count depends on its kind.
type Check struct {
	Name    string
	Kind    string   // console, run, http, reboot or poweroff
	Pattern string   // a regular expression, ^ and $ of which are at lines: of the console, of what the command prints, of the server's document; "" is anything
	Argv    []string // run: the command and its arguments
	Status  int      // run: how it ends; http: the status of the answer
	Retry   bool     // run: again and again until it comes out so
	Port    int      // http: in the machine
	Path    string   // http: of the document, from the slash on
}

// pause is how long after a check that did not come out so it is tried again.
const pause = time.Second

// Valid says what is wrong with a list of checks, by their names.
func Valid(checks []Check) error {
	if len(checks) == 0 {
		return errors.New("there is nothing to check")
	}
	var errs []error
	off := false
	for i := range checks {
		c := &checks[i]
		err := c.valid()
		if off {
			err = errors.Join(err, errors.New("the machine is off by then: nothing can be checked after poweroff"))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("check %d: %w", i, err))
		}
		off = off || c.Kind == kindPoweroff
	}
	return errors.Join(errs...)
}

func (c *Check) valid() error {
	_, err := c.pattern()
	switch {
	case c.Name == "" || strings.ContainsAny(c.Name, "\r\n"):
		return fmt.Errorf("%q is no name: it is a line of text", c.Name)
	case !slices.Contains(kinds(), c.Kind):
		return fmt.Errorf("%q is none of %s", c.Kind, strings.Join(kinds(), ", "))
	case err != nil:
		return fmt.Errorf("%s: %w", c.Name, err)
	case c.Kind == kindConsole && c.Pattern == "":
		return fmt.Errorf("%s: it waits for no text", c.Name)
	case c.Kind == kindCommand && (len(c.Argv) == 0 || c.Argv[0] == ""):
		return fmt.Errorf("%s: there is no command", c.Name)
	case c.Kind == kindCommand && (c.Status < 0 || c.Status > 255):
		return fmt.Errorf("%s: no command ends with status %d", c.Name, c.Status)
	case c.Kind == kindHTTP && (c.Port < 1 || c.Port > 65535):
		return fmt.Errorf("%s: %d is no port", c.Name, c.Port)
	case c.Kind == kindHTTP && (c.Status < 100 || c.Status > 599):
		return fmt.Errorf("%s: no server answers with status %d", c.Name, c.Status)
	case c.Kind == kindHTTP && !strings.HasPrefix(c.Path, "/"):
		return fmt.Errorf("%s: path %q does not begin with a slash", c.Name, c.Path)
	}
	return nil
}

// pattern is the regular expression, of which ^ and $ are at lines.
func (c *Check) pattern() (*regexp.Regexp, error) {
	if _, err := regexp.Compile(c.Pattern); err != nil {
		return nil, err // in the words of what was written
	}
	return regexp.Compile("(?m)" + c.Pattern)
}

// Network reports whether the check gets to the machine through its network.
func (c *Check) Network() bool { return c.Kind == kindHTTP }

// check runs one check until it comes out as it should, can't any more, or ctx ends.
func (t *trial) check(ctx context.Context, c *Check) error {
	pattern, err := c.pattern()
	if err != nil {
		return err
	}
	switch c.Kind {
	case kindConsole:
		return t.expect(ctx, pattern)
	case kindCommand:
		return again(ctx, c.Retry, func() error { return t.command(ctx, c, pattern) })
	case kindHTTP:
		return again(ctx, true, func() error { return t.fetch(ctx, c, pattern) })
	case kindReboot:
		return t.reboot(ctx)
	}
	return t.poweroff(ctx)
}

// expect waits for a text on the console. What a machine said before it went off may come
// after the word that it is off.
func (t *trial) expect(ctx context.Context, want *regexp.Regexp) error {
	err := t.console.expect(ctx, want)
	if err == nil || !isClosed(t.Down()) {
		return err
	}
	t.picture() // while there is one
	t.End()
	t.console.wait()
	if found, _ := t.console.find(want, true); found {
		return nil
	}
	return err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// again runs try until it succeeds, once if it is not to be repeated.
func again(ctx context.Context, repeat bool, try func() error) error {
	for {
		err := try()
		if err == nil || !repeat || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// maxShown bounds what a message has of what a command printed, in bytes.
const maxShown = 2000

func (t *trial) command(ctx context.Context, c *Check, pattern *regexp.Regexp) error {
	got, err := t.access.run(ctx, t, c.Argv)
	switch {
	case err != nil:
		return err
	case got.Status != c.Status:
		return fmt.Errorf("the command ended with status %d, want %d%s", got.Status, c.Status, printed(got))
	case !pattern.Match(got.Output):
		return fmt.Errorf("what the command printed does not match %q%s", c.Pattern, printed(got))
	}
	return nil
}

// printed is what a command printed, for a message.
func printed(got qemu.Exited) string {
	all := bytes.TrimSpace(append(slices.Clone(got.Output), got.Errors...))
	if len(all) == 0 {
		return ", and printed nothing"
	}
	if n := len(all) - maxShown; n > 0 {
		all = append([]byte("..."), all[n:]...)
	}
	var plain text
	return ", and printed:\n" + string(plain.of(all))
}

// maxDocument bounds how much of a server's document is looked at, in bytes.
const maxDocument = 1 << 20

// attempt is how long one answer of a server may take as the [clock] counts, on a machine
// without KVM, too: a connection that was made while the machine started is never answered.
const attempt = time.Minute

// errSilent says that a server took longer.
var errSilent = fmt.Errorf("no answer within %v", attempt)

func (t *trial) fetch(ctx context.Context, c *Check, pattern *regexp.Regexp) error {
	ports, err := t.Ports(ctx)
	if err != nil {
		return err
	}
	ctx, done := t.clock.limit(ctx, attempt, errSilent)
	defer done()
	at := "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[c.Port])) + c.Path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	// Proxies are for other machines, and where a redirection leads is none of this machine's.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(request)
	if err != nil {
		return cmp.Or(errors.Unwrap(err), err) // without the port of this host
	}
	document, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument))
	err = errors.Join(err, answer.Body.Close())
	switch {
	case err != nil:
		return err
	case answer.StatusCode != c.Status:
		return fmt.Errorf("the server answers with status %d, want %d", answer.StatusCode, c.Status)
	case !pattern.Match(document):
		return fmt.Errorf("the server's document does not match %q", c.Pattern)
	}
	return nil
}

// reboot has the guest start anew, and waits until it has ended and starts.
func (t *trial) reboot(ctx context.Context) error {
	if err := t.access.ready(ctx, t); err != nil {
		return err
	}
	anew := t.Reset()
	err := t.shutdown(ctx, anew, "shutdown -r now || systemctl reboot")
	if err == nil {
		t.console.restart()
		t.access.forget()
	}
	return err
}

// poweroff has the guest go off, and waits until it has.
func (t *trial) poweroff(ctx context.Context) error {
	up, stop := until(ctx, t.Down(), t.off)
	err := t.access.ready(up, t)
	if stop(); err != nil {
		return err
	}
	err = t.shutdown(ctx, t.Down(), "shutdown -P now || systemctl poweroff")
	return cmp.Or(t.Died(), err)
}

// killed is the least status of what a signal ended, as a shutdown does with who asked for it.
const killed = 128

// shutdown runs a command after which nobody may be there to say how it ended, and waits
// for what comes of it.
func (t *trial) shutdown(ctx context.Context, done <-chan struct{}, command string) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		got, err := t.access.run(running, t, []string{"/bin/sh", "-c", command})
		if err == nil && got.Status != 0 && got.Status < killed {
			err = fmt.Errorf("the command ended with status %d%s", got.Status, printed(got))
		} else {
			err = nil
		}
		ended <- err
	}()
	var err error
	select {
	case <-done:
		stop()
		<-ended
		return nil
	case err = <-ended:
	case <-ctx.Done():
		err = <-ended
	}
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
