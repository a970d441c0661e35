package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/size"
)

// transferLine shows a running transfer on one line of a terminal.
func transferLine(s *session.Session, verb string) func(repo.Progress) {
	line := s.Console.Line()
	if s.Quiet || line == nil {
		return nil
	}
	return func(p repo.Progress) { line(verb + " " + transferred(p)) }
}

// transferred says how far a transfer is, how fast, and what it saves, in what
// fits a terminal of 80 columns with a short name.
func transferred(p repo.Progress) string {
	return fmt.Sprintf("%s: %d%% of %s, moved %s (%s), %s there", p.Name, min(100*p.Done/max(p.Total, 1), 100), size.About(p.Total),
		size.About(p.Sent+p.Received), rate(p.Transfer), size.About(p.Reused))
}

func rate(t repo.Transfer) string {
	return size.About(int64(float64(t.Sent+t.Received)/max(t.Elapsed.Seconds(), 0.001))) + "/s"
}

// unfinished says how a transfer that failed goes on, where it is of use to
// start it again.
func unfinished(t repo.Transfer, err error) error {
	if err == nil || t.Sent+t.Received == 0 || errors.Is(err, repo.ErrDamaged) || errors.Is(err, repo.ErrVersionTaken) || takesNothing(err) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: run it again to go on where it stopped", err)
}

// takesNothing reports whether a repository is fine to read from, and can't
// be written to.
func takesNothing(err error) bool {
	return errors.Is(err, repo.ErrReadOnly) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC)
}

// tellTransfer sums a finished transfer up, on standard error.
func tellTransfer(s *session.Session, what string, v repo.Version, t repo.Transfer) {
	s.Tell("%s %s@%s: %s over the wire in %s (%s), %s of %s were there already", what, v.Name, v.Version,
		size.About(t.Sent+t.Received), t.Elapsed.Round(10*time.Millisecond), rate(t), size.About(t.Reused), size.About(t.New+t.Reused))
}

// tellUnchanged says that nothing had to move.
func tellUnchanged(s *session.Session, v repo.Version, why string) {
	s.Tell("unchanged %s@%s: %s", v.Name, v.Version, why)
}
