package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/sshdtest"
)

// terminal opens a pseudo-terminal: the side of the person and the program's.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// echoes reports whether the terminal shows what is typed.
func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// untilSilent waits until a question was asked.
func untilSilent(t *testing.T, tty *os.File) {
	for range 1000 {
		if !echoes(t, tty) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("the terminal still shows what is typed")
}

func TestPromptAnswer(t *testing.T) {
	t.Parallel()
	person, tty := terminal(t)
	var asked bytes.Buffer
	var typing sync.WaitGroup
	typing.Go(func() {
		untilSilent(t, tty)
		person.WriteString("open sesame\r")
	})
	phrase, err := AskPassphrase(tty, &asked)(t.Context(), "/home/me/.ssh/id", false)
	typing.Wait()
	if err != nil || string(phrase) != "open sesame" {
		t.Errorf("%q, %v", phrase, err)
	}
	if asked.String() != "passphrase of /home/me/.ssh/id: \n" || !echoes(t, tty) {
		t.Errorf("said %q; echo %v", &asked, echoes(t, tty))
	}
}

// TestPromptCancelled ends the context while somebody types.
func TestPromptCancelled(t *testing.T) {
	t.Parallel()
	person, tty := terminal(t)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	var typing sync.WaitGroup
	typing.Go(func() {
		untilSilent(t, tty)
		person.WriteString("half a pass")
		cancel(enough)
	})
	if phrase, err := AskPassphrase(tty, new(bytes.Buffer))(ctx, "id", false); !errors.Is(err, enough) {
		t.Errorf("%q, %v", phrase, err)
	}
	typing.Wait()
	if !echoes(t, tty) {
		t.Error("the terminal stays silent")
	}
	person.WriteString("next\r")
	line := make([]byte, 100)
	if n, err := tty.Read(line); err != nil || string(line[:n]) != "next\n" {
		t.Errorf("the next to read gets %q, %v", line[:n], err)
	}
}

// TestPromptCancelledLogin does so in the middle of a login.
func TestPromptCancelledLogin(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	sshdtest.Keygen(t, s.Path("locked"), "-t", "ed25519", "-N", "secret")
	s.Authorize("locked")
	_, tty := terminal(t)
	o := s.options()
	o.Identities = []string{s.Path("locked")}
	o.Passphrase = AskPassphrase(tty, new(bytes.Buffer))
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		untilSilent(t, tty)
		cancel(enough)
	}()
	if _, err := dial(ctx, s.target(), o); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	if !echoes(t, tty) {
		t.Error("the terminal stays silent")
	}
}
