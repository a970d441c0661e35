package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// monitor is QEMU's monitor, by its QMP: a JSON document a line, of which those with an
// id answer, and those with an event tell what happens.
type monitor struct {
	conn    net.Conn
	ready   bool
	process *child
	down    chan struct{} // closed when the guest is off

	mu      sync.Mutex
	next    int
	waiting map[int]chan answer // nil once the connection has ended
	reset   chan struct{}       // closed, and replaced, when the guest starts anew
}

// answer is a document of QEMU.
type answer struct {
	ID     *int            `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	QMP   json.RawMessage `json:"QMP"`
}

func newMonitor(conn net.Conn) *monitor {
	return &monitor{conn: conn, down: make(chan struct{}), waiting: map[int]chan answer{}, reset: make(chan struct{})}
}

// open waits for the greeting, and goes on to commands.
func (m *monitor) open(ctx context.Context) error {
	greeted := make(chan struct{})
	go m.read(greeted)
	select {
	case <-greeted:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.run(ctx, "qmp_capabilities", nil, nil); err != nil {
		return err
	}
	m.ready = true
	return nil
}

// errGone says that QEMU has ended.
var errGone = errors.New("it has ended")

// read passes answers on until the connection ends; greeted is closed at the first
// document, or the end.
func (m *monitor) read(greeted chan struct{}) {
	greet := sync.OnceFunc(func() { close(greeted) })
	off := sync.OnceFunc(func() { close(m.down) })
	documents := json.NewDecoder(bufio.NewReader(m.conn))
	for {
		var a answer
		if documents.Decode(&a) != nil {
			break
		}
		greet()
		if a.Event == "SHUTDOWN" || a.Event == "GUEST_PANICKED" {
			off()
		}
		if a.Event == "RESET" {
			m.mu.Lock()
			close(m.reset)
			m.reset = make(chan struct{})
			m.mu.Unlock()
		}
		if a.ID == nil {
			continue
		}
		m.mu.Lock()
		to := m.waiting[*a.ID]
		delete(m.waiting, *a.ID)
		m.mu.Unlock()
		if to != nil {
			to <- a
		}
	}
	m.mu.Lock()
	for _, to := range m.waiting {
		close(to)
	}
	m.waiting = nil
	m.mu.Unlock()
	greet()
	off()
}

// gone reports whether the connection has ended.
func (m *monitor) gone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waiting == nil
}

// run runs a command, and decodes what it returns into result, unless that is nil.
func (m *monitor) run(ctx context.Context, name string, arguments map[string]any, result any) error {
	to := make(chan answer, 1)
	m.mu.Lock()
	if m.waiting == nil {
		m.mu.Unlock()
		return errGone
	}
	m.next++
	id := m.next
	m.waiting[id] = to
	command := map[string]any{"execute": name, "id": id}
	if arguments != nil {
		command["arguments"] = arguments
	}
	data, err := json.Marshal(command)
	if err == nil {
		_, err = m.conn.Write(append(data, '\n'))
	}
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", name, errors.Join(errGone, err))
	}
	select {
	case a, ok := <-to:
		switch {
		case !ok:
			return errGone
		case a.Error != nil:
			return fmt.Errorf("%s: %s", name, a.Error.Desc)
		case result == nil:
			return nil
		}
		return json.Unmarshal(a.Return, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
}

// Reset is closed when the guest starts anew after the call, as a reboot has it.
func (r *Running) Reset() <-chan struct{} {
	r.monitor.mu.Lock()
	defer r.monitor.mu.Unlock()
	return r.monitor.reset
}

// Stop holds the guest's processors; Continue lets them go on.
func (r *Running) Stop(ctx context.Context) error { return r.monitor.run(ctx, "stop", nil, nil) }

// Continue undoes Stop.
func (r *Running) Continue(ctx context.Context) error { return r.monitor.run(ctx, "cont", nil, nil) }

// Screenshot writes what the screen shows into a file, as PNG.
func (r *Running) Screenshot(ctx context.Context, file string) error {
	return r.monitor.run(ctx, "screendump", map[string]any{"filename": file, "format": "png"}, nil)
}
