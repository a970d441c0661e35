package main

import (
	"fmt"
	"time"

	"b9/engine/fsys"
	"b9/engine/repo"
)

// clearLine goes to the start of a terminal's line and erases it.
const clearLine = "\r\x1b[K"

// transferLine shows a running transfer on one line of a terminal.
func (a *app) transferLine(verb string) func(repo.Progress) {
	if a.quiet || !isTerminal(a.stderr) {
		return nil
	}
	size := terminalSize(a.stderr)
	return func(p repo.Progress) {
		a.onLine.Store(true)
		cols, _ := size()
		text := []rune(verb + " " + transferred(p))
		fmt.Fprint(a.stderr, clearLine+string(text[:min(len(text), cols-1)]))
	}
}

// transferred says how far a transfer is, how fast, and what it saves.
func transferred(p repo.Progress) string {
	return fmt.Sprintf("%s: %s of %s, %s over the wire (%s), %s were there", p.Name, fsys.FormatSize(p.Done), fsys.FormatSize(p.Total),
		fsys.FormatSize(p.Sent+p.Received), rate(p.Transfer), fsys.FormatSize(p.Reused))
}

func rate(t repo.Transfer) string {
	return fsys.FormatSize(int64(float64(t.Sent+t.Received)/max(t.Elapsed.Seconds(), 0.001))) + "/s"
}

// endLine erases the line of a transfer, so that something else can be told.
func (a *app) endLine() {
	if a.onLine.Swap(false) {
		fmt.Fprint(a.stderr, clearLine)
	}
}

// tellTransfer sums a finished transfer up, on standard error.
func (a *app) tellTransfer(what string, v repo.Version, t repo.Transfer) {
	if a.quiet {
		return
	}
	a.endLine()
	fmt.Fprintf(a.stderr, "%s %s@%s: %s over the wire in %s (%s), %s of %s were there already\n", what, v.Name, v.Version,
		fsys.FormatSize(t.Sent+t.Received), t.Elapsed.Round(10*time.Millisecond), rate(t), fsys.FormatSize(t.Reused), fsys.FormatSize(t.New+t.Reused))
}
