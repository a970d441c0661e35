package guest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"b9.build/b9/engine/tool"
)

// TestWhileUp ends a command whose machine is off, and none whose machine is not.
func TestWhileUp(t *testing.T) {
	l := &login{dir: t.TempDir()}
	stuck := filepath.Join(l.dir, "ssh") // as through a connection that says nothing more
	if err := os.WriteFile(stuck, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	down := make(chan struct{})
	up, done := whileUp(t.Context(), down, time.Millisecond)
	cmd := l.command(up, stuck, 22)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if up.Err() != nil {
		t.Error("it ends before the machine does")
	}
	close(down)
	if err := cmd.Wait(); err == nil || !errors.Is(context.Cause(up), errOff) {
		t.Errorf("it ends with %v, because of %v", err, context.Cause(up))
	}
	done()
	up, done = whileUp(t.Context(), make(chan struct{}), time.Millisecond)
	if done(); errors.Is(context.Cause(up), errOff) {
		t.Error("a machine that is not off went off")
	}
}

// TestLoginAnywhere gets in from a directory whose name has signs that mean something to ssh.
func TestLoginAnywhere(t *testing.T) {
	path, err := tool.Find("ssh")
	if err != nil {
		t.Skip("needs the Debian package openssh-client")
	}
	dir := filepath.Join(t.TempDir(), `a place, "%h" 'of' ${HOME} \ #1`)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := newLogin(dir, "root")
	if err != nil {
		t.Fatal(err)
	}
	port := serve(t, l.public)
	for range 2 { // the second time the server is known
		if in, refusal := l.attempt(t.Context(), path, port); !in {
			t.Fatalf("not let in: %s", refusal)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, knownHosts)); err != nil || !bytes.Contains(data, []byte("ssh-ed25519")) {
		t.Errorf("known hosts are %q, %v", data, err)
	}
}

// serve is an ssh server at loopback that lets one key in, and says that every command succeeded.
func serve(t *testing.T, public string) (port int) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	c := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, got ssh.PublicKey) (*ssh.Permissions, error) {
		if string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(got))) != public {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	c.AddHostKey(key)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			succeed(conn, c)
		}
	}()
	return socket.Addr().(*net.TCPAddr).Port
}

// succeed answers one connection.
func succeed(conn net.Conn, c *ssh.ServerConfig) {
	defer conn.Close()
	server, channels, requests, err := ssh.NewServerConn(conn, c)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for asked := range channels {
		channel, requests, err := asked.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			_ = r.Reply(r.Type == "exec", nil)
			if r.Type == "exec" {
				_, _ = channel.SendRequest("exit-status", false, make([]byte, 4))
				_ = channel.Close()
			}
		}
	}
	_ = server.Wait()
}
