package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// agent speaks with QEMU's guest agent, where the guest has one. Its protocol is a JSON
// document a line, one command at a time.
type agent struct {
	conn  net.Conn
	mu    sync.Mutex
	lines *bufio.Reader
	next  int
}

// maxAnswer bounds an answer in bytes: that of a command with 16 MiB of output and 16 MiB of
// errors, which is as much as the agent keeps, in base64.
const maxAnswer = 48 << 20

// delimiter stands before the answer to a synchronisation; no JSON has it.
const delimiter = 0xff

// sync waits until the agent answers, and leaves nothing of earlier answers in between.
func (a *agent) sync(ctx context.Context) error {
	if a.lines == nil {
		a.lines = bufio.NewReader(a.conn)
	}
	a.next++
	command := fmt.Sprintf("\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%d}}\n", a.next)
	if err := a.write(ctx, []byte(command)); err != nil {
		return err
	}
	for {
		if err := a.skip(delimiter); err != nil {
			return a.because(ctx, err)
		}
		var got struct{ Return int }
		line, err := a.lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // it is none of the agent's
		}
		if err != nil {
			return a.because(ctx, err)
		}
		if json.Unmarshal(line, &got) == nil && got.Return == a.next {
			return nil
		}
	}
}

// skip reads on to a byte, however far that is.
func (a *agent) skip(to byte) error {
	for {
		if _, err := a.lines.ReadSlice(to); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// line is the next line, if it is no longer than most.
func (a *agent) line(most int) ([]byte, error) {
	var line []byte
	for {
		part, err := a.lines.ReadSlice('\n')
		if line = append(line, part...); !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > most {
			return nil, fmt.Errorf("guest agent: an answer of more than %d bytes", most)
		}
	}
}

func (a *agent) write(ctx context.Context, data []byte) error {
	_, err := a.conn.Write(data)
	return a.because(ctx, err)
}

// because prefers the reason why a wait was ended.
func (a *agent) because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// run runs one command.
func (a *agent) run(ctx context.Context, name string, arguments, result any) error {
	data, err := json.Marshal(map[string]any{"execute": name, "arguments": arguments})
	if err != nil {
		return err
	}
	if err := a.write(ctx, append(data, '\n')); err != nil {
		return err
	}
	line, err := a.line(maxAnswer)
	if err != nil {
		return a.because(ctx, err)
	}
	var got answer
	if err := json.Unmarshal(line, &got); err != nil {
		return fmt.Errorf("guest agent: %w", err)
	}
	if got.Error != nil {
		return fmt.Errorf("guest agent: %s: %s", name, got.Error.Desc)
	}
	return json.Unmarshal(got.Return, result)
}

// Exited is how a command in the guest ended.
type Exited struct {
	Status         int    // 128 and the number, after a signal
	Output, Errors []byte // what it wrote to its two streams, each 16 MiB at most
}

// Agent waits until the guest's agent answers, and no longer than ctx.
func (r *Running) Agent(ctx context.Context) error {
	a := &r.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.until(ctx)()
	return a.sync(ctx)
}

// until ends what the agent is asked when ctx does; the caller calls done after it.
func (a *agent) until(ctx context.Context) (done func()) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = a.conn.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-ended // or the next command would have that deadline, too
			_ = a.conn.SetDeadline(time.Time{})
		}
	}
}

// Exec runs a command in the guest through its agent, as root, and waits for the agent to
// come and the command to end.
func (r *Running) Exec(ctx context.Context, argv ...string) (Exited, error) {
	a := &r.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.until(ctx)()
	if err := a.sync(ctx); err != nil {
		return Exited{}, err
	}
	var started struct{ PID int }
	arguments := map[string]any{"path": argv[0], "arg": argv[1:], "capture-output": true}
	if err := a.run(ctx, "guest-exec", arguments, &started); err != nil {
		return Exited{}, err
	}
	for {
		var is struct {
			Exited   bool
			ExitCode int    `json:"exitcode"`
			Signal   int    `json:"signal"`
			Out      []byte `json:"out-data"`
			Err      []byte `json:"err-data"`
		}
		if err := a.run(ctx, "guest-exec-status", map[string]any{"pid": started.PID}, &is); err != nil {
			return Exited{}, err
		}
		if !is.Exited {
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return Exited{}, err
			}
			continue
		}
		if is.Signal != 0 {
			is.ExitCode = 128 + is.Signal
		}
		return Exited{is.ExitCode, is.Out, is.Err}, nil
	}
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx))
	}
}
