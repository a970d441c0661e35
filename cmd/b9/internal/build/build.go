// Package build holds the commands that build: build, run, shell and explain, and
// log, which tells of an earlier one.
//
//	Flags    of every command that builds
//	Request  what a command wants built, and how
//	Do       builds it, puts the results where they belong, and tells them
//	Built    what a command goes on with
package build

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/session"
)

// Command is `b9 build`.
func Command(p *session.Program) *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use:   "build TARGET...",
		Short: "Build targets and put the results into b9-out/",
		Long: `Build targets and put the results into b9-out/, by label. For each result one
line goes to standard output: path, size and content digest, separated by tabs.
With --json sizes are exact, in bytes.`,
		Example: "  b9 build //web:disk\n  b9 build //...\n  b9 build examples/debian.star:disk -D suite=trixie",
		Args:    command.SomeTargets,
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			b := &maker{Session: s, Request: Request{Flags: f, Patterns: args, Results: p.Out}}
			return b.run(ctx)
		}, f.Configure),
	}
	f.Register(cmd)
	return cmd
}

// run tells the results of a build that has nothing to do, or does the build.
func (b *maker) run(ctx context.Context) error {
	started := time.Now()
	r, err := b.again(ctx)
	if err != nil {
		return err
	}
	if r == nil {
		_, err := b.do(ctx)
		return err
	}
	d, end := b.Console.Build(b.Display(b.display))
	r.Seconds = time.Since(started).Seconds()
	d.Finish(display.Summary{Cached: r.Cached, Took: time.Since(started)})
	end()
	if err := b.tell(r, nil); err != nil {
		return err
	}
	return b.collect(ctx)
}
