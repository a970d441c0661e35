package inspect

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// Config is `b9 config`.
func Config(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print every setting, its value and where the value came from",
		Long: `Print every setting, its value and where the value came from. Later layers win:
defaults, the user's file (~/.config/b9/config.toml), the workspace's b9.toml,
the environment (container.memory is B9_CONTAINER_MEMORY), then -c KEY=VALUE.`,
		Args: command.NoArgs,
		RunE: p.With(func(_ context.Context, s *session.Session, _ []string) error {
			settings := s.Config.Settings()
			var text []byte
			for _, set := range settings {
				text = fmt.Appendf(text, "%-24s %-20s # %s; %s\n", set.Key, fmt.Sprintf("%q", set.Value), set.Origin, set.Doc)
			}
			return s.Show(output.Config{Settings: settings}, string(text))
		}),
	}
}
