package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/near"
)

// Config is `b9 config`, with the commands below it.
func Config(p *session.Program) *cobra.Command {
	var to settingsFile
	cmd := &cobra.Command{
		Use: "config [KEY [VALUE]]",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 2:
				return exit.Usagef("config takes a setting and a value for it, got %d arguments: quote a value with blanks", len(args))
			case len(args) < 2 && (to.user || to.workspace):
				return exit.Usagef("config: --user and --workspace say where a value is written: give KEY VALUE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return set(cmd.Context(), p, to, args[0], args[1])
			}
			return p.With(show)(cmd, args)
		},
	}
	to.flags(cmd)
	cmd.AddCommand(configSet(p), configCheck(p))
	return cmd
}

// show prints the settings, or one of them.
func show(_ context.Context, s *session.Session, args []string) error {
	settings := s.Config.Settings()
	if len(args) > 0 {
		return setting(s, settings, args[0])
	}
	var text []byte
	for _, set := range settings {
		text = fmt.Appendf(text, "%-24s %-20s # %s; %s\n", set.Key, fmt.Sprintf("%q", set.Value), set.Origin, set.Doc)
	}
	return s.Show(output.Config{Settings: settings}, string(text))
}

// setting prints the value of one setting, for scripts.
func setting(s *session.Session, settings []config.Setting, key string) error {
	keys := make([]string, len(settings))
	for i, set := range settings {
		if keys[i] = set.Key; set.Key == key {
			return s.Show(output.Config{Settings: settings[i : i+1]}, set.Value+"\n")
		}
	}
	return exit.Usagef("config: there is no setting %q%s (`b9 config` lists them)", key, near.Hint(key, append(keys, "set", "check")))
}

// configSet is `b9 config set`.
func configSet(p *session.Program) *cobra.Command {
	var to settingsFile
	cmd := &cobra.Command{
		Use:  "set KEY VALUE",
		Args: command.ExactArgs("a setting and its value", 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return set(cmd.Context(), p, to, args[0], args[1])
		},
	}
	to.flags(cmd)
	return cmd
}

// settingsFile is the file that a setting is written to.
type settingsFile struct{ user, workspace bool }

func (f *settingsFile) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.user, "user", false, "write to your own file, ~/.config/b9/config.toml")
	cmd.Flags().BoolVar(&f.workspace, "workspace", false, "write to the workspace's b9.toml, as is the default in one")
}

// choose returns the path, and whether it is that of the workspace.
func (f settingsFile) choose(l config.Layers, dir string) (path string, workspace bool, err error) {
	if f.user && f.workspace {
		return "", false, exit.Usagef("config: --user or --workspace, not both")
	}
	if !f.user && l.WorkspaceFile != "" {
		return l.WorkspaceFile, true, nil
	}
	if f.workspace {
		_, err := lang.FindRoot(dir) // says what is missing
		return "", false, exit.Usage(cmp.Or(err, errors.New("there is no workspace here")))
	}
	if l.UserFile == "" {
		return "", false, errors.New("there is no home directory to keep the configuration in: set HOME")
	}
	return l.UserFile, false, nil
}

// set writes a setting, also into a file that has mistakes elsewhere.
func set(ctx context.Context, p *session.Program, to settingsFile, key, value string) error {
	l, dir, _, err := p.Layers()
	if err != nil {
		return err
	}
	path, workspace, err := to.choose(l, dir)
	if err != nil {
		return err
	}
	if err := config.Check(path, key, value, workspace, l.Location); err != nil {
		return exit.Usagef("config: %w", err)
	}
	if err := config.Set(ctx, path, key, value, workspace, p.WaitsFor("it edits "+path)); err != nil {
		return err
	}
	cfg, err := config.Load(l)
	if err != nil {
		p.Console.Warn("%s is set in %s, but the configuration has mistakes (`b9 config check`): %s", key, path, firstLine(err.Error()))
		return nil
	}
	for _, set := range cfg.Settings() {
		if origin, _, _ := strings.Cut(strings.TrimPrefix(set.Origin, path), ":"); set.Key == key && origin != "" {
			p.Console.Warn("%s is set in %s, but %s counts before it: it is %q", key, path, set.Origin, set.Value)
		}
	}
	return nil
}

// configCheck is `b9 config check`.
func configCheck(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use: "check",
		RunE: func(*cobra.Command, []string) error {
			l, _, _, err := p.Layers()
			if err != nil {
				return err
			}
			if _, err := config.Load(l); err != nil {
				return exit.Usage(err)
			}
			p.Tell("no mistakes in %s", strings.Join(readFrom(l), ", "))
			return nil
		},
	}
}

// readFrom names what the layers are that are there.
func readFrom(l config.Layers) []string {
	var from []string
	for _, path := range []string{l.UserFile, l.WorkspaceFile} {
		if _, err := os.Stat(path); path != "" && !errors.Is(err, fs.ErrNotExist) {
			from = append(from, filepath.Clean(path))
		}
	}
	return append(from, "the environment and the command line")
}
