package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// sshd starts a real sshd on loopback for the rest of the script. The ssh
// configuration in $HOME then knows it as "server".
func sshd(ts *testscript.TestScript, neg bool, args []string) {
	program := "/usr/sbin/sshd"
	if _, err := os.Stat(program); err != nil {
		ts.Fatalf("no %s: install the Debian package openssh-server", program)
	}
	ts.Check(os.MkdirAll("/run/sshd", 0o755)) // where sshd of Debian confines itself
	dir := ts.MkAbs(".ssh")
	ts.Check(os.MkdirAll(dir, 0o700))
	for _, name := range []string{"host", "id_ed25519"} {
		ts.Check(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).Run())
	}
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	ts.Check(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	port := l.Addr().(*net.TCPAddr).Port
	ts.Check(l.Close())
	me, err := user.Current()
	ts.Check(err)
	for name, text := range map[string]string{
		"config":      fmt.Sprintf("Host server\n  HostName 127.0.0.1\n  Port %d\n  User %s\n  IdentityAgent none\n", port, me.Username),
		"known_hosts": fmt.Sprintf("[127.0.0.1]:%d %s", port, public),
		"sshd_config": fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/id_ed25519.pub\nPidFile none\nUsePAM no\n"+
			"StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n", port, dir, dir),
	} {
		ts.Check(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	cmd := exec.Command(program, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	log, err := os.Create(filepath.Join(dir, "log"))
	ts.Check(err)
	defer log.Close()
	cmd.Stderr = log
	ts.Check(cmd.Start())
	ts.Defer(func() { cmd.Process.Kill(); cmd.Wait() })
	var text []byte
	for range 3000 {
		if text, err = os.ReadFile(log.Name()); bytes.Contains(text, []byte("Server listening on ")) {
			return // that somebody answers at the port would be no proof
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("sshd does not listen: %v\n%s", err, text)
}
