package vm

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Host is what the host adds to a machine: what it runs on, its firmware, its networks,
// where its console goes.
type Host struct {
	Accel      string   // "kvm" or "tcg"
	CPU        string   // model of the processor; "" for all that the accelerator has
	Code, Vars string   // files of a UEFI, see [FindFirmware]
	TPM        string   // where the socket of a TPM is: "path=FILE" or "fd=NUMBER"
	Networks   []string // what each card is at, as QEMU's -netdev has it; "" for nothing; nil for user networks
	Console    []string // options for the serial console and the monitor
	Display    []string // options for the screen
}

// Args is QEMU's command line without its name. It is the same for the same arguments.
func (m *Machine) Args(w Host) []string {
	cpu := cmp.Or(w.CPU, map[string]string{"kvm": "host"}[w.Accel], "max")
	machine := m.Type
	if m.SecureBoot {
		machine += ",smm=on"
	}
	list := []string{
		"-name", m.Name, "-machine", machine, "-accel", w.Accel, "-cpu", cpu,
		"-m", strconv.FormatInt(m.Memory>>20, 10), "-smp", strconv.Itoa(m.CPUs),
		"-nodefaults", "-no-user-config", "-device", "VGA", "-device", "virtio-rng-pci",
	}
	list = append(list, m.firmwareArgs(w)...)
	list = append(list, m.diskArgs()...)
	list = append(list, m.nicArgs(w)...)
	for i, s := range m.Shares {
		ro := ",readonly=on"
		if s.Writable {
			ro = ""
		}
		list = append(list, "-fsdev", fmt.Sprintf("local,id=share%d,path=%s,security_model=none%s", i, comma(s.Dir), ro),
			"-device", fmt.Sprintf("virtio-9p-pci,fsdev=share%d,mount_tag=%s", i, s.Tag))
	}
	list = append(list, w.Display...)
	return append(list, w.Console...)
}

// comma doubles commas, which end a value in QEMU's options.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func (m *Machine) firmwareArgs(w Host) []string {
	var args []string
	if m.Firmware == "uefi" {
		if m.SecureBoot {
			args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1")
		}
		args = append(args,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+comma(w.Code),
			"-drive", "if=pflash,unit=1,format=raw,file="+comma(w.Vars))
	}
	if m.TPM {
		args = append(args, "-chardev", "socket,id=tpm,"+w.TPM, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	if m.Kernel != "" {
		args = append(args, "-kernel", m.Kernel)
		if m.Initrd != "" {
			args = append(args, "-initrd", m.Initrd)
		}
		if m.Cmdline != "" {
			args = append(args, "-append", m.Cmdline)
		}
	}
	return args
}

// driverOf is QEMU's name of a format.
func driverOf(format string) string {
	if format == "vhd" {
		return "vpc"
	}
	return format
}

// diskArgs puts disks to controllers, and the seed into a drive of its own behind them.
func (m *Machine) diskArgs() []string {
	var args []string
	used := map[string]int{}
	first := 0
	if m.Kernel != "" {
		first = 1 // a kernel that QEMU starts has the first place itself
	}
	for i, d := range m.Disks {
		c, _ := controllerOf(d.Controller)
		n := used[c.name]
		if used[c.name]++; n == 0 && c.device != "" && !m.builtIn(c) {
			args = append(args, "-device", c.device+",id="+c.name)
		}
		id := fmt.Sprintf("disk%d", i)
		args = append(args, "-drive", fmt.Sprintf("if=none,id=%s,format=%s,discard=unmap%s,file=%s", id, driverOf(d.Format), readOnly(d.CD), comma(d.File)))
		dev := c.disk
		if d.CD {
			dev = c.cd
		}
		args = append(args, "-device", fmt.Sprintf("%s,drive=%s,bootindex=%d%s", dev, id, first+i, m.place(c, n, i)))
	}
	if m.Seed == "" {
		return args
	}
	c, _ := controllerOf(m.SeedController())
	if used[c.name] == 0 && !m.builtIn(c) && c.device != "" {
		args = append(args, "-device", c.device+",id="+c.name)
	}
	return append(args, "-drive", "if=none,id=seed,format=raw,readonly=on,file="+comma(m.Seed),
		"-device", c.cd+",drive=seed"+m.place(c, used[c.name], -1))
}

// SeedController is what the drive with the seed is at: the first disk's controller if
// it has room for a CD, since the guest's kernel has a driver for that one, else
// virtio-scsi.
func (m *Machine) SeedController() string {
	if len(m.Disks) > 0 {
		c, ok := controllerOf(m.Disks[0].Controller)
		n := 0
		for _, d := range m.Disks {
			if d.Controller == c.name {
				n++
			}
		}
		if ok && c.cd != "" && n < c.slots {
			return c.name
		}
	}
	return "virtio-scsi"
}

// builtIn reports whether the machine has that controller anyway.
func (m *Machine) builtIn(c controller) bool {
	return c.name == "sata" && m.Type == "q35" || c.name == "ide" && m.Type == "pc"
}

// place is where the n-th disk of a controller is; number tells serial numbers apart.
func (m *Machine) place(c controller, n, number int) string {
	switch {
	case c.name == "nvme":
		return fmt.Sprintf(",serial=disk%d", number)
	case c.one:
		return ""
	case c.name == "sata" && m.builtIn(c):
		return fmt.Sprintf(",bus=ide.%d", n)
	case c.name == "sata":
		return fmt.Sprintf(",bus=sata.%d", n)
	case c.name == "ide":
		return fmt.Sprintf(",bus=ide.%d,unit=%d", n/2, n%2)
	case c.name == "usb":
		return ",bus=usb.0"
	}
	return fmt.Sprintf(",bus=%s.0,scsi-id=%d", c.name, n)
}

func readOnly(yes bool) string {
	if yes {
		return ",readonly=on"
	}
	return ""
}

// nicArgs puts every card to its network.
func (m *Machine) nicArgs(w Host) []string {
	var args []string
	for i, n := range m.NICs {
		network := "user"
		if w.Networks != nil {
			network = w.Networks[i]
		}
		device := cmp.Or(map[string]string{"virtio": "virtio-net-pci"}[n.Model], n.Model)
		if network != "" {
			args = append(args, "-netdev", fmt.Sprintf("%s,id=net%d", network, i))
			device += fmt.Sprintf(",netdev=net%d", i)
		}
		device += ",romfile="
		if n.MAC != "" {
			device += ",mac=" + n.MAC
		}
		args = append(args, "-device", device)
	}
	return args
}
