package repo

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestEarlyRead reads a part of a file while connecting, from the SFTP server
// in sshd and from the one that is a program of its own.
func TestEarlyRead(t *testing.T) {
	s := newSSHD(t)
	path := s.path("file")
	text := bytes.Repeat([]byte("0123456789abcdef"), 8<<10) // four requests long
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"internal-sftp", "/usr/lib/openssh/sftp-server"} {
		s.config = strings.Replace(s.config, "Subsystem sftp internal-sftp", "Subsystem sftp "+program, 1)
		s.restart()
		for _, c := range []struct {
			off    int64
			length int
			want   []byte
			eof    bool
		}{
			{0, 1 << 20, text, true},
			{0, 64 << 10, text[:64<<10], false},
			{5, 32 << 10, text[5:][:32<<10], false},
			{100_000, 1 << 20, text[100_000:], true},
			{1 << 30, 1, nil, true},
		} {
			e := &early{path: path, off: c.off, length: c.length}
			conn, err := dialSSH(t.Context(), s.target(), s.options(), e)
			if err != nil {
				t.Fatal(err)
			}
			if !e.ok || !bytes.Equal(e.data, c.want) || e.eof != c.eof {
				t.Errorf("%s: %d bytes from %d on: %v, %d bytes, end %v", program, c.length, c.off, e.ok, len(e.data), e.eof)
			}
			if info, err := conn.SFTP.Stat(path); err != nil || info.Size() != int64(len(text)) {
				t.Errorf("%s: afterwards: %v, %v", program, info, err)
			}
			conn.Close()
		}
		e := &early{path: s.path("none"), length: 100}
		conn, err := dialSSH(t.Context(), s.target(), s.options(), e)
		if err != nil || e.ok {
			t.Fatalf("%s: what is not there was opened: %v, %v", program, e.ok, err)
		}
		if _, err := conn.SFTP.Stat(path); err != nil {
			t.Errorf("%s: afterwards: %v", program, err)
		}
		conn.Close()
	}
}

func TestNoTransfer(t *testing.T) {
	s := newSSHD(t)
	s.config = strings.Replace(s.config, "Subsystem sftp internal-sftp", "", 1)
	s.restart()
	refused(t, s.target(), s.options(), "offers no file transfer", "refuses the subsystem", "Subsystem sftp")
}

// TestOtherHandle answers as a server that names its files otherwise.
func TestOtherHandle(t *testing.T) {
	e := &early{path: "/f", length: 40 << 10}
	status := func(id uint32, code uint32) []byte { return packet(fxStatus, id, code, "", "") }
	const failure = 4
	in := bytes.Join([][]byte{packet(fxHandle, uint32(earlyID), "other"), status(earlyID+1, failure), status(earlyID+2, failure), status(earlyID+3, failure), status(earlyID, 0)}, nil)
	ch := &scripted{in: bytes.NewReader(in)}
	if err := e.collect(&stream{Channel: ch}); err != nil || e.ok || ch.in.Len() > 0 {
		t.Errorf("%v, %v, %d bytes are left", e.ok, err, ch.in.Len())
	}
	if want := packet(fxClose, uint32(earlyID), "other"); !bytes.Equal(ch.out.Bytes(), want) {
		t.Errorf("sent %x, want %x", &ch.out, want)
	}
}

// FuzzEarly lets a server answer anything.
func FuzzEarly(f *testing.F) {
	f.Add(bytes.Join([][]byte{packet(fxHandle, uint32(earlyID), firstHandle), packet(fxData, uint32(earlyID+1), "hello"), packet(fxStatus, uint32(earlyID+2), uint32(fxStatusEOF), "", ""), packet(fxStatus, uint32(earlyID+3), uint32(0), "", "")}, nil))
	f.Add(packet(fxHandle, uint32(earlyID), "other"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := &early{path: "/f", length: 40 << 10}
		err := e.collect(&stream{Channel: &scripted{in: bytes.NewReader(b)}})
		if err == io.EOF && len(b) > 1<<20 || len(e.data) > 2*earlyRead || !e.ok && len(e.data) > 0 {
			t.Errorf("%v: %v with %d bytes", err, e.ok, len(e.data))
		}
	})
}

// scripted is a channel on which everything was said before.
type scripted struct {
	ssh.Channel
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *scripted) Write(p []byte) (int, error) { return s.out.Write(p) }
