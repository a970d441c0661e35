package guest

import (
	"cmp"
	"fmt"
	"slices"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/vm"
)

// memory is that of --memory in bytes; 0 leaves it to the machine.
func (o *Options) memory() (int64, error) {
	if o.Memory == "" {
		return 0, nil
	}
	n, err := size.Parse(o.Memory)
	if err != nil || n == 0 || n%(1<<20) != 0 {
		return 0, exit.Usagef("--memory %s: want whole MiB, such as 512M", o.Memory)
	}
	return int64(n), nil
}

// change returns the machine as the command line has it.
func (o *Options) change(s *session.Session, m *vm.Machine) (*vm.Machine, error) {
	if err := o.Check(s); err != nil {
		return nil, err
	}
	own := *m
	if n, _ := o.memory(); n > 0 { // which Check has read
		own.Memory = n
	}
	own.Firmware = cmp.Or(o.Firmware, own.Firmware)
	own.Shares = append(slices.Clone(m.Shares), o.shares...)
	if len(own.NICs) == 0 && (o.SSH || len(o.forwards) > 0) {
		return nil, exit.Usagef("%s has no network card: --ssh and --forward need one", m.Name)
	}
	if err := own.Check(); err != nil {
		return nil, exit.Usage(fmt.Errorf("with these flags it is no machine: %w", err))
	}
	return &own, nil
}
