// Package sshdtest gives tests a real sshd(8) with files of its own, and the
// programs of OpenSSH. Only tests import it.
//
// A [Server] listens in the test's process and starts one `sshd -i` for each
// connection. So it has its port from the first moment on, there is no moment
// at which it takes no connections, and a changed configuration counts from
// the next connection on.
package sshdtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Program finds a program of OpenSSH.
func Program(t testing.TB, name string) string {
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

// Run runs a program of OpenSSH and returns what it prints.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(Program(t, name), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, &stderr)
	}
	return string(out)
}

// Keygen makes a key pair and returns the path of its private half.
func Keygen(t testing.TB, path string, args ...string) string {
	t.Helper()
	Run(t, "ssh-keygen", append([]string{"-q", "-f", path, "-C", "test"}, args...)...)
	return path
}

// Server is an sshd that lets in the keys of its file authorized_keys, of
// which "id" is one.
type Server struct {
	t          testing.TB
	dir        string
	addr       string
	config     string
	authorized string // the file authorized_keys
	program    string
	listener   net.Listener
	serving    sync.WaitGroup // every process

	mu        sync.Mutex
	processes map[int]*exec.Cmd
}

// New starts a server on loopback with an ed25519 host key, or with those of
// the given kinds. It ends with the test.
func New(t testing.TB, kinds ...string) *Server {
	t.Helper()
	s := Prepare(t, "127.0.0.1", kinds...)
	s.Listen()
	return s
}

// Prepare writes what a server at an address needs. It serves from the call
// of [Server.Listen] on.
func Prepare(t testing.TB, addr string, kinds ...string) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), addr: addr, program: Program(t, "sshd"), processes: map[int]*exec.Cmd{}}
	if os.Getuid() == 0 {
		s.must(os.MkdirAll("/run/sshd", 0o755)) // where sshd of Debian confines itself
	}
	if len(kinds) == 0 {
		kinds = []string{"ed25519"}
	}
	config := ""
	for _, kind := range kinds {
		Keygen(t, s.Path("host_"+kind), "-t", kind, "-N", "")
		config += "HostKey " + s.Path("host_"+kind) + "\n"
	}
	// A login shell of whoever tests must not read that one's own files: they may
	// print, and wait.
	s.Configure(config + "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n" +
		"SetEnv HOME=" + s.dir + "\nPermitRootLogin yes\nAuthorizedKeysFile " + s.Path("authorized_keys") + "\nSubsystem sftp internal-sftp\n")
	Keygen(t, s.Path("id"), "-t", "ed25519", "-N", "")
	s.Authorize("id")
	return s
}

// Listen begins to take connections, in the network namespace of the thread
// that calls it.
func (s *Server) Listen() {
	s.t.Helper()
	var err error
	s.listener, err = net.Listen("tcp", net.JoinHostPort(s.addr, "0"))
	s.must(err)
	var accepting sync.WaitGroup
	accepting.Go(s.accept)
	s.t.Cleanup(func() {
		s.listener.Close()
		accepting.Wait()
		s.Kill()
		s.serving.Wait()
	})
}

// accept takes connections until the listener is closed.
func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if err := s.serve(conn.(*net.TCPConn)); err != nil {
			s.t.Errorf("sshd: %v", err)
		}
	}
}

// serve hands a connection to an sshd of its own.
func (s *Server) serve(conn *net.TCPConn) error {
	defer conn.Close() // the process has its own
	line, err := conn.File()
	if err != nil {
		return err
	}
	defer line.Close()
	log, err := os.OpenFile(s.Path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.program, "-i", "-e", "-f", s.Path("sshd_config"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, log
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.processes[cmd.Process.Pid] = cmd
	s.serving.Go(func() {
		cmd.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.processes, cmd.Process.Pid)
	})
	return nil
}

// Processes lists the processes that serve connections, and those below them.
func (s *Server) Processes() (all []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid := range s.processes {
		all = append(append(all, pid), descendants(pid)...)
	}
	return all
}

// descendants lists the processes below pid.
func descendants(pid int) (all []int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, text := range strings.Fields(string(b)) {
		if child, err := strconv.Atoi(text); err == nil {
			all = append(append(all, child), descendants(child)...)
		}
	}
	return all
}

// Kill kills the processes that serve connections. New ones are still taken.
func (s *Server) Kill() {
	for _, pid := range s.Processes() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Config is the server's sshd_config(5).
func (s *Server) Config() string { return s.config }

// Configure gives the server another sshd_config(5).
func (s *Server) Configure(text string) {
	s.t.Helper()
	s.config = text
	temp := s.Write("sshd_config.new", text)
	s.must(os.Rename(temp, s.Path("sshd_config"))) // an sshd may be reading the one before
}

// Path is that of a file of the server.
func (s *Server) Path(name string) string { return filepath.Join(s.dir, name) }

// Dir is the directory of the server's files.
func (s *Server) Dir() string { return s.dir }

// Authorize lets in the key of that name.
func (s *Server) Authorize(name string) {
	s.t.Helper()
	s.authorized += s.Public(name) + "\n"
	s.Write("authorized_keys", s.authorized)
}

// Write makes a file of the server and returns its path.
func (s *Server) Write(name, text string) string {
	s.t.Helper()
	s.must(os.WriteFile(s.Path(name), []byte(text), 0o600))
	return s.Path(name)
}

// must fails the test for an error.
func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// KnownHosts writes known_hosts and returns its path. Without lines it holds
// the server's ed25519 key.
func (s *Server) KnownHosts(lines ...string) string {
	s.t.Helper()
	if len(lines) == 0 {
		lines = []string{s.Name() + " " + s.Public("host_ed25519")}
	}
	return s.Write("known_hosts", strings.Join(lines, "\n")+"\n")
}

// Public is the public key of that name, as known_hosts files write it.
func (s *Server) Public(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(s.Path(name + ".pub"))
	s.must(err)
	fields := strings.Fields(string(data))
	return fields[0] + " " + fields[1]
}

// Addr is the address that the server listens at.
func (s *Server) Addr() string { return s.addr }

// Port is the port that it listens at.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Name is the server as known_hosts files write it.
func (s *Server) Name() string { return fmt.Sprintf("[%s]:%d", s.addr, s.Port()) }

// User is who may log in: who runs the test.
func (s *Server) User() string {
	s.t.Helper()
	u, err := user.Current()
	s.must(err)
	return u.Username
}
