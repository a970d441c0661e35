package repo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// stream is an SSH channel with an SFTP server at its other end.
type stream struct {
	ssh.Channel
	moved atomic.Int64 // bytes, both ways; keep-alives are not among them
	drop  int          // of what is written next: it was sent already
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Channel.Read(p)
	s.moved.Add(int64(n))
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	dropped := min(s.drop, len(p))
	s.drop -= dropped
	if dropped == len(p) {
		return len(p), nil
	}
	n, err := s.Channel.Write(p[dropped:])
	s.moved.Add(int64(n))
	return dropped + n, err
}

// early is the part of a file that is asked for together with the beginning
// of the file transfer, which saves waiting for the protocol's version and for
// the open file's handle.
type early struct {
	path   string
	off    int64
	length int

	ok   bool   // the file was opened
	data []byte // what came, from off on
	eof  bool   // the file ends there
}

// Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 3).
const (
	fxInit    = 1
	fxVersion = 2
	fxOpen    = 3
	fxClose   = 4
	fxRead    = 5
	fxStatus  = 101
	fxHandle  = 102
	fxData    = 103

	fxReadFlag  = 1 // of open
	fxStatusEOF = 1
	// earlyID is the first number of an early request; those of the sftp
	// package begin at 1.
	earlyID = 1 << 31
	// earlyRead is what one request asks for, as the sftp package does.
	earlyRead = 32 << 10
	// maxReply bounds a packet from the server: OpenSSH sends at most 256 KiB.
	maxReply = 256<<10 + 1024
)

// firstHandle is what an OpenSSH server calls the first file it opens. The
// requests that come with the opening rely on it; where it turns out to be
// another one they fail, and the file is opened once more.
const firstHandle = "\x00\x00\x00\x00"

// packet puts a length before what is in it.
func packet(kind byte, fields ...any) []byte {
	b := []byte{0, 0, 0, 0, kind}
	for _, f := range fields {
		switch f := f.(type) {
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, f)
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// requests returns the packets that open the file, read it and close it.
func (e *early) requests() []byte {
	b := packet(fxOpen, uint32(earlyID), e.path, uint32(fxReadFlag), uint32(0))
	for n := range e.reads() {
		b = append(b, packet(fxRead, uint32(earlyID+1+n), firstHandle, uint64(e.off)+uint64(n*earlyRead), uint32(earlyRead))...)
	}
	return append(b, packet(fxClose, uint32(earlyID+1+e.reads()), firstHandle)...)
}

func (e *early) reads() int { return (e.length + earlyRead - 1) / earlyRead }

// reply is a packet from the server.
type reply struct {
	kind byte
	body []byte // what follows the kind
}

// readReply reads the next packet, and not a byte more.
func readReply(r io.Reader) (reply, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return reply{}, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 1 || length > maxReply {
		return reply{}, fmt.Errorf("a packet of %d bytes came", length)
	}
	p := reply{head[4], make([]byte, length-1)}
	_, err := io.ReadFull(r, p.body)
	return p, err
}

// text is the string, after the request's number, of a handle or of data.
func (p reply) text() ([]byte, bool) {
	if len(p.body) < 8 || int64(binary.BigEndian.Uint32(p.body[4:])) > int64(len(p.body)-8) {
		return nil, false
	}
	return p.body[8:][:binary.BigEndian.Uint32(p.body[4:])], true
}

// isEOF reports whether it says that the file ends before.
func (p reply) isEOF() bool {
	return p.kind == fxStatus && len(p.body) >= 8 && binary.BigEndian.Uint32(p.body[4:]) == fxStatusEOF
}

// collect reads the answers to the early requests. What went wrong is no
// error: the file is opened again in the usual way, which tells.
func (e *early) collect(s *stream) error {
	replies := make([]reply, e.reads()+2)
	for range replies {
		p, err := readReply(s)
		if err != nil {
			return err
		}
		if len(p.body) < 4 {
			return errors.New("a packet without a number came")
		}
		n := int64(binary.BigEndian.Uint32(p.body)) - earlyID
		if n < 0 || n >= int64(len(replies)) || replies[n].kind != 0 {
			return errors.New("an answer to no question came")
		}
		replies[n] = p
	}
	handle, ok := replies[0].text()
	if replies[0].kind != fxHandle || !ok {
		return nil
	}
	if string(handle) != firstHandle {
		return e.release(s, string(handle))
	}
	e.ok = true
	e.join(replies[1 : len(replies)-1])
	return nil
}

// join puts together what was read, up to the first gap.
func (e *early) join(replies []reply) {
	for _, p := range replies {
		if p.isEOF() {
			e.eof = true
			return
		}
		data, ok := p.text()
		if p.kind != fxData || !ok || len(data) > earlyRead || len(e.data)%earlyRead != 0 {
			return
		}
		e.data = append(e.data, data...)
	}
}

// release closes the file that has another handle than was thought.
func (e *early) release(s *stream, handle string) error {
	if _, err := s.Write(packet(fxClose, uint32(earlyID), handle)); err != nil {
		return err
	}
	_, err := readReply(s)
	return err
}

// transfer starts the file transfer subsystem in a channel of its own, and
// does what e asks for, if it is not nil.
func (l *sshLink) transfer(e *early) (*channel, error) {
	ch, requests, err := l.client.OpenChannel("session", nil)
	if err != nil {
		return nil, noTransfer(err)
	}
	go ssh.DiscardRequests(requests) // these two end with the channel
	go io.Copy(io.Discard, ch.Stderr())
	s := &stream{Channel: ch}
	version, err := s.begin(e)
	if err != nil {
		ch.Close()
		return nil, noTransfer(err)
	}
	s.drop = len(greeting())
	client, err := sftp.NewClientPipe(&replayed{version, s}, s, clientOptions()...)
	if err != nil {
		ch.Close()
		return nil, noTransfer(err)
	}
	return &channel{Client: client, stream: s}, nil
}

func noTransfer(err error) error {
	return fmt.Errorf("the server offers no file transfer: %w (its sshd_config needs a line such as \"Subsystem sftp internal-sftp\")", err)
}

// greeting is the packet that begins the protocol.
func greeting() []byte { return packet(fxInit, uint32(3)) }

// begin asks for the subsystem, begins its protocol, and returns the packet
// with the server's version. An OpenSSH server takes no data before it has
// granted the subsystem, so that there is an answer to wait for.
func (s *stream) begin(e *early) ([]byte, error) {
	ok, err := s.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
	if err == nil && !ok {
		err = errors.New("it refuses the subsystem")
	}
	if err != nil {
		return nil, err
	}
	return s.exchange(e)
}

// exchange sends the first packets and reads the answers.
func (s *stream) exchange(e *early) ([]byte, error) {
	flight := greeting()
	if e != nil {
		flight = append(flight, e.requests()...)
	}
	if _, err := s.Write(flight); err != nil {
		return nil, err
	}
	version, err := readReply(s)
	if err == nil && version.kind != fxVersion {
		err = errors.New("it does not tell its version")
	}
	if err == nil && e != nil {
		err = e.collect(s)
	}
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(version.body)+1))
	return append(append(b, version.kind), version.body...), nil
}

// replayed gives back what was read already, and then the rest.
type replayed struct {
	first []byte
	rest  io.Reader
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) == 0 {
		return r.rest.Read(p)
	}
	n := copy(p, r.first)
	r.first = r.first[n:]
	return n, nil
}

// earlyFile is a file of which a part was read while connecting. It is
// opened again when another part is asked for.
type earlyFile struct {
	e     *early
	again func() (reader, error)

	mu   sync.Mutex
	rest reader
}

// ReadAt implements io.ReaderAt.
func (f *earlyFile) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if at := off - f.e.off; at >= 0 && at <= int64(len(f.e.data)) {
		n = copy(p, f.e.data[at:])
		if n == len(p) {
			return n, nil
		}
		if f.e.eof {
			return n, io.EOF
		}
	}
	rest, err := f.reopened()
	if err != nil {
		return n, err
	}
	m, err := rest.ReadAt(p[n:], off+int64(n))
	return n + m, err
}

func (f *earlyFile) reopened() (reader, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rest == nil {
		rest, err := f.again()
		if err != nil {
			return nil, err
		}
		f.rest = rest
	}
	return f.rest, nil
}

// Close implements io.Closer.
func (f *earlyFile) Close() error {
	if f.rest == nil {
		return nil
	}
	return f.rest.Close()
}
