package repo

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sshServer is a real sshd(8) on loopback, with files of its own only.
type sshServer struct {
	t      testing.TB
	dir    string
	addr   string
	port   int
	config string
	cmd    *exec.Cmd
	cut    atomic.Bool // the line to one that is distant
}

// sshProgram finds a program of OpenSSH.
func sshProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no %s: install the Debian packages openssh-client and openssh-server", name)
	}
	return path
}

// keygen makes a key pair and returns the path of its private half.
func keygen(t testing.TB, path string, args ...string) string {
	t.Helper()
	openssh(t, "ssh-keygen", append([]string{"-q", "-f", path, "-C", "test"}, args...)...)
	return path
}

// openssh runs a program of OpenSSH and returns what it prints.
func openssh(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(sshProgram(t, name), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, &stderr)
	}
	return string(out)
}

// freePort is a port that nothing listens on at the moment.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// newSSHD starts sshd with an ed25519 host key, or with those of the given
// kinds, that lets in the keys of dir/authorized_keys.
func newSSHD(t testing.TB, kinds ...string) *sshServer {
	t.Helper()
	s := prepareSSHD(t, "127.0.0.1", kinds...)
	s.start()
	return s
}

// prepareSSHD writes what an sshd at addr needs, which is stopped in the end.
func prepareSSHD(t testing.TB, addr string, kinds ...string) *sshServer {
	t.Helper()
	s := &sshServer{t: t, dir: t.TempDir(), addr: addr, port: freePort(t)}
	if len(kinds) == 0 {
		kinds = []string{"ed25519"}
	}
	for _, kind := range kinds {
		keygen(t, s.path("host_"+kind), "-t", kind, "-N", "")
		s.config += "HostKey " + s.path("host_"+kind) + "\n"
	}
	s.config += fmt.Sprintf("Port %d\nListenAddress %s\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"+
		"KbdInteractiveAuthentication no\nPermitRootLogin yes\nAuthorizedKeysFile %s\nSubsystem sftp internal-sftp\n", s.port, addr, s.path("authorized_keys"))
	keygen(t, s.path("id"), "-t", "ed25519", "-N", "")
	s.authorize("id")
	t.Cleanup(s.stop)
	return s
}

func (s *sshServer) path(name string) string { return filepath.Join(s.dir, name) }

// authorize lets in the key of that name.
func (s *sshServer) authorize(name string) {
	data, err := os.ReadFile(s.path(name + ".pub"))
	if err != nil {
		s.t.Fatal(err)
	}
	f, err := os.OpenFile(s.path("authorized_keys"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		s.t.Fatal(err)
	}
}

// start starts the server and waits until it says that it listens. That
// somebody answers at the port is no proof: a child of a server that was killed
// right after a connection still listens for a moment, and resets what it is
// asked. Until it has let go of the port no other server can have it.
func (s *sshServer) start() {
	s.t.Helper()
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where sshd of Debian confines itself
			s.t.Fatal(err)
		}
	}
	s.write("sshd_config", s.config)
	s.launch()
	var log string
	for range 3000 {
		text, _ := os.ReadFile(s.path("log"))
		log = string(text)
		switch {
		case strings.Contains(log, "Server listening on "):
			return
		case strings.Contains(log, "Cannot bind any address"):
			s.stop()
			s.launch()
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("sshd does not listen:\n%s", log)
}

// launch makes the server's process, which begins its log anew.
func (s *sshServer) launch() {
	s.t.Helper()
	log, err := os.Create(s.path("log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(sshProgram(s.t, "sshd"), "-D", "-e", "-f", s.path("sshd_config"))
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the server; connections that it has live on.
func (s *sshServer) stop() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// restart takes a changed configuration into use.
func (s *sshServer) restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

func (s *sshServer) write(name, text string) string {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.path(name)
}

// public is the public key of that name, as known_hosts files write it.
func (s *sshServer) public(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(s.path(name + ".pub"))
	if err != nil {
		s.t.Fatal(err)
	}
	fields := strings.Fields(string(data))
	return fields[0] + " " + fields[1]
}

// name is the server as known_hosts files write it.
func (s *sshServer) name() string { return fmt.Sprintf("[%s]:%d", s.addr, s.port) }

func (s *sshServer) target() sshTarget {
	u, err := user.Current()
	if err != nil {
		s.t.Fatal(err)
	}
	return sshTarget{User: u.Username, Host: s.addr, Port: s.port}
}

// options let a client in, with known_hosts as given; without any it holds
// the server's ed25519 key.
func (s *sshServer) options(known ...string) SSHOptions {
	s.t.Helper()
	if len(known) == 0 {
		known = []string{s.name() + " " + s.public("host_ed25519")}
	}
	return SSHOptions{
		Config: []string{}, KnownHosts: []string{s.write("known_hosts", strings.Join(known, "\n")+"\n")},
		Identities: []string{s.path("id")}, Agent: "none", Home: s.dir,
	}
}

// log is what the server has said.
func (s *sshServer) log() string {
	data, _ := os.ReadFile(s.path("log"))
	return string(data)
}
