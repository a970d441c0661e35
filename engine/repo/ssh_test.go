package repo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// works checks that files can be read over a connection.
func works(t *testing.T, to sshTarget, o SSHOptions) {
	t.Helper()
	c, err := dialSSH(t.Context(), to, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := c.SFTP.Open(dir + "/f")
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
func refused(t *testing.T, to sshTarget, o SSHOptions, reasons ...string) {
	t.Helper()
	c, err := dialSSH(t.Context(), to, o, nil)
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
	s := newSSHD(t)
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			keygen(t, s.path("user_"+kind), "-t", kind, "-N", "")
			s.authorize("user_" + kind)
			o := s.options()
			o.Identities = []string{s.path("user_" + kind)}
			works(t, s.target(), o)
		})
	}
}

func TestLoginRefused(t *testing.T) {
	s := newSSHD(t)
	keygen(t, s.path("stranger"), "-t", "ed25519", "-N", "")
	o := s.options()
	o.Identities = []string{s.path("stranger")}
	refused(t, s.target(), o, "takes none of the keys", s.path("stranger"), "SHA256:", "authorized_keys")
	o.Identities = []string{s.path("missing")}
	refused(t, s.target(), o, "takes none of the keys", "missing: no such file")
	o.Identities = []string{}
	refused(t, s.target(), o, "there is no key to log in with", "ssh-keygen -t ed25519")
	if err := os.Chmod(s.path("id"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, s.target(), s.options(), "others may read it", "chmod 600")
}

func TestPassphrase(t *testing.T) {
	s := newSSHD(t)
	for name, args := range map[string][]string{
		"openssh": {"-t", "ed25519"}, "rsa": {"-t", "rsa"}, "pem": {"-t", "rsa", "-m", "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			key := keygen(t, s.path("locked_"+name), append(args, "-N", "open sesame")...)
			s.authorize("locked_" + name)
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
	s := newSSHD(t)
	o := s.options()
	o.Identities = []string{keygen(t, s.path("locked"), "-t", "ed25519", "-N", "secret")}
	s.authorize("locked")
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
	s := newSSHD(t)
	key := keygen(t, s.path("locked"), "-t", "ed25519", "-N", "secret")
	o := s.options()
	o.Identities = []string{key, s.path("id")}
	o.Passphrase = func(context.Context, string, bool) ([]byte, error) {
		t.Error("asked for a key that the server does not take")
		return nil, errors.New("no")
	}
	works(t, s.target(), o)

	s.authorize("locked")
	o.Timeout = 2 * time.Second
	o.Passphrase = func(context.Context, string, bool) ([]byte, error) {
		time.Sleep(o.Timeout + time.Second/2)
		return []byte("secret"), nil
	}
	works(t, s.target(), o)
}

func TestAgent(t *testing.T) {
	s := newSSHD(t)
	keygen(t, s.path("held"), "-t", "ed25519", "-N", "")
	s.authorize("held")
	o := s.options()
	o.Agent = startAgent(t, s)
	t.Setenv("SSH_AUTH_SOCK", o.Agent)
	openssh(t, "ssh-add", "-q", s.path("held"))
	if err := os.Remove(s.path("held")); err != nil {
		t.Fatal(err)
	}
	o.Identities = []string{}
	works(t, s.target(), o)

	// IdentitiesOnly leaves the agent's key out, unless its public half is named.
	o.Config = []string{s.write("config", "Host *\nIdentitiesOnly yes\n")}
	refused(t, s.target(), o, "takes none of the keys")
	o.Identities = []string{s.path("held")}
	works(t, s.target(), o)

	o.Config, o.Agent = nil, s.path("no-agent")
	refused(t, s.target(), o, "no agent")
}

// startAgent starts an ssh-agent and returns its socket.
func startAgent(t *testing.T, s *sshServer) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := dir + "/s"
	cmd := exec.Command(sshProgram(t, "ssh-agent"), "-D", "-a", socket)
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
	s := newSSHD(t)
	ca := keygen(t, s.path("user_ca"), "-t", "ed25519", "-N", "")
	s.config += "TrustedUserCAKeys " + ca + ".pub\n"
	s.restart()
	for _, kind := range []string{"ed25519", "rsa"} {
		key := keygen(t, s.path("cert_"+kind), "-t", kind, "-N", "")
		openssh(t, "ssh-keygen", "-q", "-s", ca, "-I", "who", "-n", s.target().User, key+".pub")
		o := s.options()
		o.Identities = []string{key}
		works(t, s.target(), o)
	}
}

func TestProxyJump(t *testing.T) {
	a, b, c := newSSHD(t), newSSHD(t), newSSHD(t)
	o := c.options(a.name()+" "+a.public("host_ed25519"), b.name()+" "+b.public("host_ed25519"), c.name()+" "+c.public("host_ed25519"))
	o.Identities = []string{a.path("id"), b.path("id"), c.path("id")}
	hosts := ""
	for name, s := range map[string]*sshServer{"a": a, "b": b, "c": c} {
		hosts += fmt.Sprintf("Host %s\n  HostName 127.0.0.1\n  Port %d\n", name, s.port)
	}
	for name, jumps := range map[string]string{
		"listed": "Host c\n  ProxyJump a,b\n",
		"nested": "Host c\n  ProxyJump b\nHost b\n  ProxyJump a\nHost *\n  ProxyJump a\n",
		"url":    fmt.Sprintf("Host c\n  ProxyJump ssh://a,127.0.0.1:%d\n", b.port),
	} {
		t.Run(name, func(t *testing.T) {
			a.restart()
			b.restart()
			o.Config = []string{c.write("config", jumps+hosts)}
			works(t, sshTarget{Host: "c"}, o)
			for _, s := range []*sshServer{a, b} {
				if !strings.Contains(s.log(), "Accepted publickey") {
					t.Errorf("it did not go through all servers:\n%s", s.log())
				}
			}
		})
	}
	o.Config = []string{c.write("config", "Host c\n  ProxyJump b\nHost b\n  ProxyJump c\n"+hosts)}
	refused(t, sshTarget{Host: "c"}, o, "is ProxyJump a circle?", "c through b through c")

	// A bad host key on the way stops there.
	o.Config = []string{c.write("config", "Host c\n  ProxyJump a\n"+hosts)}
	o.KnownHosts = []string{c.write("known_hosts", c.name()+" "+c.public("host_ed25519")+"\n")}
	refused(t, sshTarget{Host: "c"}, o, "on the way to c", "host key of "+a.name()+" is not known")
}

func TestCancelAndTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := sshTarget{User: "u", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
	o := SSHOptions{Config: []string{}, KnownHosts: []string{}, Identities: []string{}, Agent: "none", Timeout: 100 * time.Millisecond}
	refused(t, to, o, "no answer within 100ms")

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	o.Timeout = time.Hour
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := dialSSH(ctx, to, o, nil); !errors.Is(err, cause) {
		t.Errorf("after a cancel: %v", err)
	}
	l.Close()
	refused(t, to, o, "connect to u@127.0.0.1", "connection refused")
}

// A server that falls silent, and one that goes away, end what is under way.
func TestLostConnection(t *testing.T) {
	s := newSSHD(t)
	proxy := newStoppable(t, s.port)
	for name, stop := range map[string]func(){"silent": proxy.freeze, "gone": proxy.cut} {
		t.Run(name, func(t *testing.T) {
			to := s.target()
			o := s.options(fmt.Sprintf("[127.0.0.1]:%d %s", proxy.port, s.public("host_ed25519")))
			to.Port, o.Alive = proxy.port, 50*time.Millisecond
			c, err := dialSSH(t.Context(), to, o, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.SFTP.Stat("/"); err != nil {
				t.Fatal(err)
			}
			stop()
			if _, err := c.SFTP.Stat("/"); err == nil {
				t.Error("an answer came through")
			}
			c.watches.Wait()
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), "connection to ") {
				t.Errorf("the reason is %v", err)
			}
		})
	}
}
