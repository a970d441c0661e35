package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/output"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print every setting, its value and where the value came from",
		Long: `Print every setting, its value and where the value came from. Later layers win:
defaults, the user's file (~/.config/b9/config.toml), the workspace's b9.toml,
the environment (container.memory is B9_CONTAINER_MEMORY), then -c KEY=VALUE.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			settings := cfg.Settings()
			if a.json {
				return a.print(output.Config{Settings: settings})
			}
			for _, s := range settings {
				if _, err := fmt.Fprintf(a.stdout, "%-24s %-20s # %s; %s\n", s.Key, fmt.Sprintf("%q", s.Value), s.Origin, s.Doc); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
