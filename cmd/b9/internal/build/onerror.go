package build

import (
	"context"
	"errors"
	"fmt"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// onErrors are the values of --on-error.
func onErrors() []string { return []string{"stop", "shell"} }

// checkOnError refuses a value that can't be had, before anything is built.
func checkOnError(p *session.Program, how string) error {
	if err := command.Choice("on-error", how, onErrors()); err != nil {
		return err
	}
	if how == "shell" && (!display.IsTerminal(p.In) || !display.IsTerminal(p.Out)) {
		return exit.Usagef("--on-error=shell opens a shell, which needs a terminal: use `b9 shell TARGET -- COMMAND` after the build")
	}
	return nil
}

// enterFailure prints the error of a build, if that is still to be done, and opens a shell in the first step that
// failed in a container, as it left it. The status stays that of the build.
func enterFailure(ctx context.Context, s *session.Session, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	failed, lost := enterable(s, err)
	if failed == nil || lost != nil {
		return errors.Join(err, lost)
	}
	if s.Console.EndLine(); !exit.IsReported(err) {
		fmt.Fprint(s.Console, output.Text(err))
	}
	var code *exit.Error
	entered := enterFailed(ctx, s, failed, nil, entering{cwd: "/"})
	if errors.As(entered, &code) && code.Err == nil {
		entered = nil // that of the last command in the shell
	}
	if entered != nil {
		fmt.Fprint(s.Console, output.Text(entered))
	}
	return exit.Reported(err)
}

// enterable is the first of the steps that failed with err which a shell can enter; nil
// where there is none.
func enterable(s *session.Session, err error) (*store.FailedStep, error) {
	st, lost := s.Store()
	if lost != nil {
		return nil, lost
	}
	kept, lost := st.Failed()
	if lost != nil {
		return nil, lost
	}
	for _, failure := range output.Failures(err) {
		for _, k := range kept {
			if k.Dir != failure.Kept {
				continue
			}
			if _, ok, err := engine.LoadSandbox(k.Dir); ok && err == nil {
				return &k, nil
			}
		}
	}
	return nil, nil
}
