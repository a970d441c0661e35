package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"b9.build/b9/engine/internal/sshdtest"
	"b9.build/b9/engine/ssh/config"
)

// server is an sshd to connect to.
type server struct{ *sshdtest.Server }

func newServer(t *testing.T, kinds ...string) *server {
	t.Helper()
	return &server{sshdtest.New(t, kinds...)}
}

// log is what the sshd has said since the last forgetLog.
func (s *server) log() string {
	data, _ := os.ReadFile(s.Path("log"))
	return string(data)
}

func (s *server) forgetLog() { s.Write("log", "") }

func (s *server) target() Target { return Target{User: s.User(), Host: s.Addr(), Port: s.Port()} }

// options let a client in, with known_hosts as given; without any it holds
// the server's ed25519 key.
func (s *server) options(known ...string) Options {
	return Options{
		Config: []string{}, KnownHosts: []string{s.KnownHosts(known...)},
		Identities: []string{s.Path("id")}, Agent: "none", Home: s.Dir(),
	}
}

// session is a client with a file transfer on it.
type session struct {
	*Client
	sftp *sftp.Client
}

func dial(ctx context.Context, to Target, o Options) (*session, error) {
	s := &session{}
	var err error
	s.Client, err = Dial(ctx, to, o, func(c *Client) error {
		ch, err := c.Subsystem("sftp")
		if err == nil {
			s.sftp, err = sftp.NewClientPipe(ch, ch)
		}
		return err
	})
	return s, err
}

// works checks that files can be read over a connection.
func works(t *testing.T, to Target, o Options) {
	t.Helper()
	c, err := dial(t.Context(), to, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := c.sftp.Open(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 5)
	if _, err := f.ReadAt(data, 0); err != nil || string(data) != "hello" {
		t.Errorf("read %q, %v", data, err)
	}
	if sent, received := c.Traffic(); sent < 1000 || received < 1000 {
		t.Errorf("traffic: sent %d, received %d", sent, received)
	}
}

// refused checks that there is no connection, for all of the reasons.
func refused(t *testing.T, to Target, o Options, reasons ...string) {
	t.Helper()
	c, err := dial(t.Context(), to, o)
	if err == nil {
		c.Close()
		t.Fatal("it was let in")
	}
	if strings.Contains(err.Error(), "handshake failed: /") {
		t.Errorf("a fault of this machine is told as one of the handshake: %v", err)
	}
	for _, reason := range reasons {
		if !strings.Contains(err.Error(), reason) {
			t.Errorf("the error lacks %q: %v", reason, err)
		}
	}
}

func TestLoginKeys(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			sshdtest.Keygen(t, s.Path("user_"+kind), "-t", kind, "-N", "")
			s.Authorize("user_" + kind)
			o := s.options()
			o.Identities = []string{s.Path("user_" + kind)}
			works(t, s.target(), o)
		})
	}
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	sshdtest.Keygen(t, s.Path("stranger"), "-t", "ed25519", "-N", "")
	o := s.options()
	o.Identities = []string{s.Path("stranger")}
	refused(t, s.target(), o, "takes none of the keys", s.Path("stranger"), "SHA256:", "authorized_keys")
	o.Identities = []string{s.Path("missing")}
	refused(t, s.target(), o, "takes none of the keys", "missing: no such file")
	o.Identities = []string{}
	refused(t, s.target(), o, "there is no key to log in with", "ssh-keygen -t ed25519")
	if err := os.Chmod(s.Path("id"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, s.target(), s.options(), "others may read it", "chmod 600")
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for name, args := range map[string][]string{
		"openssh": {"-t", "ed25519"}, "rsa": {"-t", "rsa"}, "pem": {"-t", "rsa", "-m", "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			key := sshdtest.Keygen(t, s.Path("locked_"+name), append(args, "-N", "open sesame")...)
			s.Authorize("locked_" + name)
			o := s.options()
			o.Identities = []string{key}
			refused(t, s.target(), o, "protected by a passphrase", "ssh-add")
			asked := 0
			o.Passphrase = func(_ context.Context, _ string, again bool) ([]byte, error) {
				if asked++; again != (asked > 1) {
					t.Errorf("time %d: again is %v", asked, again)
				}
				if asked == 1 {
					return []byte("wrong"), nil
				}
				return []byte("open sesame"), nil
			}
			works(t, s.target(), o)
			if asked != 2 {
				t.Errorf("asked %d times, not once more after the wrong answer", asked)
			}
			o.Passphrase = func(context.Context, string, bool) ([]byte, error) { return []byte("wrong"), nil }
			refused(t, s.target(), o, "passphrase was wrong 3 times")
		})
	}
}

// TestPassphraseOnce connects twice, and asks a person once.
func TestPassphraseOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options()
	o.Identities = []string{sshdtest.Keygen(t, s.Path("locked"), "-t", "ed25519", "-N", "secret")}
	s.Authorize("locked")
	asked := 0
	o.Passphrase = func(context.Context, string, bool) ([]byte, error) {
		asked++
		return []byte("secret"), nil
	}
	o.Keys = &Keys{}
	works(t, s.target(), o)
	works(t, s.target(), o)
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// A key that the server does not take asks for no passphrase, and the time a
// person takes to type is not the server's.
func TestPassphraseOnlyWhenNeeded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := sshdtest.Keygen(t, s.Path("locked"), "-t", "ed25519", "-N", "secret")
	o := s.options()
	o.Identities = []string{key, s.Path("id")}
	o.Passphrase = func(context.Context, string, bool) ([]byte, error) {
		t.Error("asked for a key that the server does not take")
		return nil, errors.New("no")
	}
	works(t, s.target(), o)

	s.Authorize("locked")
	o.Passphrase = func(context.Context, string, bool) ([]byte, error) { return []byte("secret"), nil }
	works(t, s.target(), o)
}

// bufferedConn does not wait for the other side of a pipe when it writes: in SSH
// both sides begin with a line of their own.
type bufferedConn struct {
	net.Conn
	out chan []byte
}

func (c bufferedConn) Write(b []byte) (int, error) {
	c.out <- bytes.Clone(b)
	return len(b), nil
}

// flush writes until ended is closed.
func (c bufferedConn) flush(ended chan struct{}) {
	for {
		select {
		case b := <-c.out:
			c.Conn.Write(b)
		case <-ended:
			return
		}
	}
}

// TestPassphraseTakesTime logs in, by a clock of its own, to a server that
// answers at once, with a person who takes an hour to type a passphrase.
func TestPassphraseTakesTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	locked := sshdtest.Keygen(t, dir+"/locked", "-t", "ed25519", "-N", "secret")
	private, err := os.ReadFile(sshdtest.Keygen(t, dir+"/host", "-t", "ed25519", "-N", ""))
	if err != nil {
		t.Fatal(err)
	}
	hostKey, err := ssh.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := &config.Host{Target: Target{Host: "web", Port: 22}, Name: "web", Timeout: 10 * time.Second, Identities: []string{locked}}
		known := &trust{host: h, name: "web", known: []knownKey{{KnownKey: knownhosts.KnownKey{Key: hostKey.PublicKey()}}}}
		o := &Options{Passphrase: func(context.Context, string, bool) ([]byte, error) {
			time.Sleep(time.Hour)
			return []byte("secret"), nil
		}}
		here, there := net.Pipe()
		server := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
		server.AddHostKey(hostKey)
		var g sync.WaitGroup
		line := bufferedConn{there, make(chan []byte, 64)}
		ended := make(chan struct{})
		go line.flush(ended)
		defer close(ended)
		g.Go(func() {
			if c, channels, requests, err := ssh.NewServerConn(line, server); err == nil {
				go ssh.DiscardRequests(requests)
				go func() {
					for range channels {
					}
				}()
				c.Wait()
			}
		})
		begun := time.Now()
		c, err := shakeHands(t.Context(), here, h, o, known)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited != time.Hour {
			t.Errorf("the login took %v", waited)
		}
		c.Close()
		g.Wait()

		// With nobody to wait for, the time-out counts.
		silent, _ := net.Pipe()
		begun = time.Now()
		if _, err := shakeHands(t.Context(), silent, h, o, known); err == nil || !strings.Contains(err.Error(), "no answer within 10s") || time.Since(begun) != h.Timeout {
			t.Errorf("a server that is silent: %v after %v", err, time.Since(begun))
		}
	})
}

func TestAgent(t *testing.T) {
	s := newServer(t)
	sshdtest.Keygen(t, s.Path("held"), "-t", "ed25519", "-N", "")
	s.Authorize("held")
	o := s.options()
	o.Agent = startAgent(t, s)
	t.Setenv("SSH_AUTH_SOCK", o.Agent)
	sshdtest.Run(t, "ssh-add", "-q", s.Path("held"))
	if err := os.Remove(s.Path("held")); err != nil {
		t.Fatal(err)
	}
	o.Identities = []string{}
	works(t, s.target(), o)

	// IdentitiesOnly leaves the agent's key out, unless its public half is named.
	o.Config = []string{s.Write("config", "Host *\nIdentitiesOnly yes\n")}
	refused(t, s.target(), o, "takes none of the keys")
	o.Identities = []string{s.Path("held")}
	works(t, s.target(), o)

	o.Config, o.Agent = nil, s.Path("no-agent")
	refused(t, s.target(), o, "no agent")
}

// startAgent starts an ssh-agent and returns its socket.
func startAgent(t *testing.T, s *server) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := dir + "/s"
	cmd := exec.Command(sshdtest.Program(t, "ssh-agent"), "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 200 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return socket
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("ssh-agent does not listen")
	return ""
}

func TestUserCertificate(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ca := sshdtest.Keygen(t, s.Path("user_ca"), "-t", "ed25519", "-N", "")
	s.Configure(s.Config() + "TrustedUserCAKeys " + ca + ".pub\n")
	for _, kind := range []string{"ed25519", "rsa"} {
		key := sshdtest.Keygen(t, s.Path("cert_"+kind), "-t", kind, "-N", "")
		sshdtest.Run(t, "ssh-keygen", "-q", "-s", ca, "-I", "who", "-n", s.target().User, key+".pub")
		o := s.options()
		o.Identities = []string{key}
		works(t, s.target(), o)
	}
}

func TestProxyJump(t *testing.T) {
	t.Parallel()
	a, b, c := newServer(t), newServer(t), newServer(t)
	o := c.options(a.Name()+" "+a.Public("host_ed25519"), b.Name()+" "+b.Public("host_ed25519"), c.Name()+" "+c.Public("host_ed25519"))
	o.Identities = []string{a.Path("id"), b.Path("id"), c.Path("id")}
	hosts := ""
	for name, s := range map[string]*server{"a": a, "b": b, "c": c} {
		hosts += fmt.Sprintf("Host %s\n  HostName 127.0.0.1\n  Port %d\n", name, s.Port())
	}
	for name, jumps := range map[string]string{
		"listed": "Host c\n  ProxyJump a,b\n",
		"nested": "Host c\n  ProxyJump b\nHost b\n  ProxyJump a\nHost *\n  ProxyJump a\n",
		"url":    fmt.Sprintf("Host c\n  ProxyJump ssh://a,127.0.0.1:%d\n", b.Port()),
	} {
		t.Run(name, func(t *testing.T) {
			a.forgetLog()
			b.forgetLog()
			o.Config = []string{c.Write("config", jumps+hosts)}
			works(t, Target{Host: "c"}, o)
			for _, s := range []*server{a, b} {
				if !strings.Contains(s.log(), "Accepted publickey") {
					t.Errorf("it did not go through all servers:\n%s", s.log())
				}
			}
		})
	}
	o.Config = []string{c.Write("config", "Host c\n  ProxyJump b\nHost b\n  ProxyJump c\n"+hosts)}
	refused(t, Target{Host: "c"}, o, "is ProxyJump a circle?", "c through b through c")

	// A bad host key on the way stops there.
	o.Config = []string{c.Write("config", "Host c\n  ProxyJump a\n"+hosts)}
	o.KnownHosts = []string{c.Write("known_hosts", c.Name()+" "+c.Public("host_ed25519")+"\n")}
	refused(t, Target{Host: "c"}, o, "on the way to c", "host key of "+a.Name()+" is not known")
}

func TestCancelAndTimeout(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := Target{User: "u", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
	o := Options{Config: []string{}, KnownHosts: []string{}, Identities: []string{}, Agent: "none", Timeout: 100 * time.Millisecond}
	refused(t, to, o, "no answer within 100ms")

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	o.Timeout = time.Hour
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := dial(ctx, to, o); !errors.Is(err, cause) {
		t.Errorf("after a cancel: %v", err)
	}
	l.Close()
	refused(t, to, o, "connect to u@127.0.0.1", "connection refused")
}

// A server that falls silent, and one that goes away, end what is under way.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	proxy := newStoppable(t, s.Port())
	for name, stop := range map[string]func(){"silent": proxy.freeze, "gone": proxy.cut} {
		t.Run(name, func(t *testing.T) {
			to := s.target()
			o := s.options(fmt.Sprintf("[127.0.0.1]:%d %s", proxy.port, s.Public("host_ed25519")))
			to.Port, o.Alive = proxy.port, 50*time.Millisecond
			c, err := dial(t.Context(), to, o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.sftp.Stat("/"); err != nil {
				t.Fatal(err)
			}
			stop()
			if _, err := c.sftp.Stat("/"); err == nil {
				t.Error("an answer came through")
			}
			c.watches.Wait()
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), "connection to ") {
				t.Errorf("the reason is %v", err)
			}
		})
	}
}
