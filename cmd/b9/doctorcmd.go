package main

import (
	"context"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine/container"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this machine can and cannot do, and what to install",
		Long: `Tell what this machine can and cannot do, and what to install. Nothing is
changed. The exit status is 1 when builds that use containers or images will not
work; a warning only concerns what it names.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
}

func (a *app) doctor(ctx context.Context) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	deps := doctorDeps{StoreDir: cfg.Store.Dir, Backend: cfg.Container.Backend, LibvirtURI: cfg.Libvirt.URI}
	for _, name := range container.Backends() {
		b, err := container.Open(name, containerConfig(cfg))
		if err != nil {
			return err
		}
		deps.Backends = append(deps.Backends, b)
	}
	checks := doctor(ctx, deps)
	if err := ctx.Err(); err != nil {
		return err
	}
	if a.json {
		err = a.print(output.Doctor{Checks: checks})
	} else {
		err = renderDoctor(a.stdout, checks)
	}
	if err != nil {
		return err
	}
	if doctorFailed(checks) {
		return exit.ErrReported
	}
	return nil
}
