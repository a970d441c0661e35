// Package vm describes machines: as data, for libvirt, and as a script for a shell. It
// hides QEMU's command line, and which firmware is used. It starts nothing, knows no
// graph and no store, and opens no disk image.
//
//	Machine   a machine as data: memory, processors, disks, firmware
//	Document  the description as a file; Domain, the one for libvirt
//	Script    a program that starts the machine with QEMU alone; Args, QEMU's words for a Host
package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// schema names the document that a [Machine] is, and its version.
const schema = "machine/1"

// Program is the QEMU that machines are started with.
const Program = "qemu-system-x86_64"

// AgentPort is the channel of QEMU's guest agent.
const AgentPort = "org.qemu.guest_agent.0"

// Machine is a machine with processors of x86-64. Paths are relative to the directory
// that its description lies in, or absolute.
type Machine struct {
	Schema     string  `json:"schema"`
	Name       string  `json:"name"`
	Memory     int64   `json:"memory"` // bytes, whole MiB
	CPUs       int     `json:"cpus"`
	Type       string  `json:"type"`     // of [Types]
	Firmware   string  `json:"firmware"` // of [Firmwares]
	SecureBoot bool    `json:"secure_boot,omitempty"`
	TPM        bool    `json:"tpm,omitempty"` // 2.0
	Disks      []Disk  `json:"disks,omitempty"`
	Seed       string  `json:"seed,omitempty"`   // an ISO image on a CD drive of its own
	Kernel     string  `json:"kernel,omitempty"` // started without the disks' loader
	Initrd     string  `json:"initrd,omitempty"`
	Cmdline    string  `json:"cmdline,omitempty"`
	NICs       []NIC   `json:"nics,omitempty"`
	Shares     []Share `json:"shares,omitempty"`
}

// Disk is a disk, or a CD, at a controller.
type Disk struct {
	File       string `json:"file"`
	Format     string `json:"format"`     // of [DiskFormats]
	Controller string `json:"controller"` // of [Controllers]
	CD         bool   `json:"cd,omitempty"`
}

// NIC is a network card. Which network it is at is said when the machine is started.
type NIC struct {
	Model string `json:"model"`         // of [NICModels]
	MAC   string `json:"mac,omitempty"` // "" leaves it to QEMU
}

// Share is a directory that the guest mounts by its tag, through 9p. It is only read
// unless Writable.
type Share struct {
	Tag      string `json:"tag"`
	Dir      string `json:"dir"`
	Writable bool   `json:"writable,omitempty"`
}

// Types are the machine types, the usual one first.
func Types() []string { return []string{"q35", "pc"} }

// Firmwares are what starts a machine.
func Firmwares() []string { return []string{"bios", "uefi"} }

// DiskFormats are the formats of disks that both QEMU and libvirt know.
func DiskFormats() []string { return []string{"raw", "qcow2", "vmdk", "vdi", "vhd"} }

// NICModels are the network cards.
func NICModels() []string { return []string{"virtio", "e1000", "e1000e", "rtl8139"} }

// controller is how a disk is put to a controller.
type controller struct {
	name   string
	device string   // the controller itself; "" where the disk is at the bus of the machine
	disk   string   // the device that is the disk
	cd     string   // the same for a CD; "" where there is none
	one    bool     // the device is controller and disk in one
	slots  int      // disks at one controller
	bus    string   // that libvirt knows it by
	model  string   // of libvirt's controller, "" for the bus's own
	drives []string // the kernel's modules, of which it needs one
}

func controllers() []controller {
	return []controller{
		{name: "virtio-blk", disk: "virtio-blk-pci", one: true, bus: "virtio", drives: []string{"virtio_blk"}},
		{name: "virtio-scsi", device: "virtio-scsi-pci", disk: "scsi-hd", cd: "scsi-cd", slots: 200, bus: "scsi", model: "virtio-scsi", drives: []string{"virtio_scsi"}},
		{name: "nvme", disk: "nvme", one: true, bus: "nvme", drives: []string{"nvme"}},
		{name: "sata", device: "ich9-ahci", disk: "ide-hd", cd: "ide-cd", slots: 6, bus: "sata", drives: []string{"ahci"}},
		{name: "ide", disk: "ide-hd", cd: "ide-cd", slots: 4, bus: "ide", drives: []string{"ata_piix"}},
		{name: "usb", device: "qemu-xhci", disk: "usb-storage", slots: 8, bus: "usb", drives: []string{"usb_storage"}},
		{name: "lsi", device: "lsi53c895a", disk: "scsi-hd", slots: 7, bus: "scsi", model: "lsilogic", drives: []string{"sym53c8xx"}},
		{name: "megasas", device: "megasas", disk: "scsi-hd", cd: "scsi-cd", slots: 64, bus: "scsi", model: "lsisas1078", drives: []string{"megaraid_sas"}},
		{name: "mptsas", device: "mptsas1068", disk: "scsi-hd", cd: "scsi-cd", slots: 8, bus: "scsi", model: "lsisas1068", drives: []string{"mptsas"}},
		{name: "pvscsi", device: "pvscsi", disk: "scsi-hd", cd: "scsi-cd", slots: 64, bus: "scsi", model: "vmpvscsi", drives: []string{"vmw_pvscsi"}},
	}
}

// Controllers are the names of what disks can be at, the usual one first.
func Controllers() []string {
	var names []string
	for _, c := range controllers() {
		names = append(names, c.name)
	}
	return names
}

// Drivers are the modules of Linux, any one of which serves disks at the controller.
func Drivers(name string) []string {
	if c, ok := controllerOf(name); ok {
		return c.drives
	}
	return nil
}

// HasCD reports whether a CD can be at the controller.
func HasCD(name string) bool {
	c, _ := controllerOf(name)
	return c.cd != ""
}

func controllerOf(name string) (controller, bool) {
	all := controllers()
	i := slices.IndexFunc(all, func(c controller) bool { return c.name == name })
	if i < 0 {
		return controller{}, false
	}
	return all[i], true
}

// Document is the description of the machine as a file.
func (m *Machine) Document() ([]byte, error) {
	own := *m
	own.Schema = schema
	data, err := json.MarshalIndent(own, "", "  ")
	return append(data, '\n'), err
}

// ReadDocument is the machine that a description describes.
func ReadDocument(data []byte) (*Machine, error) {
	m := new(Machine)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, err
	}
	if m.Schema != schema {
		return nil, fmt.Errorf("it is %q, and this b9 reads %s", m.Schema, schema)
	}
	return m, m.Check()
}

// machineName is what a machine may be called: a word for file names and QEMU.
var machineName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$`) })

// Check says what is wrong with a machine, all of it.
func (m *Machine) Check() error {
	errs := []error{
		oneOf("machine", m.Type, Types()),
		oneOf("firmware", m.Firmware, Firmwares()),
		m.checkParts(),
	}
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !machineName().MatchString(m.Name) {
		wrong("%q is no name for a machine: use letters, digits, _ . + -, 64 at most", m.Name)
	}
	if m.Memory < 1<<20 || m.Memory%(1<<20) != 0 {
		wrong("memory: %d bytes are no whole MiB", m.Memory)
	}
	if m.CPUs < 1 || m.CPUs > 255 {
		wrong("cpus: %d is not from 1 to 255", m.CPUs)
	}
	if m.SecureBoot && (m.Firmware != "uefi" || m.Type != "q35") {
		wrong("secure_boot needs firmware \"uefi\" and machine \"q35\", and these are %q and %q", m.Firmware, m.Type)
	}
	if len(m.Disks) == 0 && m.Kernel == "" {
		wrong("there is nothing to start: give a disk, or a kernel")
	}
	if m.Kernel == "" && (m.Initrd != "" || m.Cmdline != "") {
		wrong("initrd and cmdline are for a machine that is given its kernel: give kernel, too")
	}
	return errors.Join(errs...)
}

// checkParts is Check for disks, network cards and shares.
func (m *Machine) checkParts() error {
	var errs []error
	count := map[string]int{}
	for _, d := range m.Disks {
		errs = append(errs, oneOf("format of "+d.File, d.Format, DiskFormats()), oneOf("controller", d.Controller, Controllers()))
		c, ok := controllerOf(d.Controller)
		if count[d.Controller]++; ok && c.slots > 0 && count[d.Controller] > c.slots {
			errs = append(errs, fmt.Errorf("controller: %s has room for %d disks", d.Controller, c.slots))
		}
		if ok && d.CD && c.cd == "" {
			errs = append(errs, fmt.Errorf("controller: a CD can't be at %s: use sata, ide or virtio-scsi", d.Controller))
		}
		if d.Controller == "ide" && m.Type != "pc" {
			errs = append(errs, fmt.Errorf("controller: a machine of type %s has no ide: use sata, or machine \"pc\"", m.Type))
		}
	}
	for _, n := range m.NICs {
		errs = append(errs, oneOf("model of a network card", n.Model, NICModels()))
		if hw, err := net.ParseMAC(n.MAC); n.MAC != "" && (err != nil || len(hw) != 6 || hw[0]&1 != 0) {
			errs = append(errs, fmt.Errorf("mac: %q is no address of a network card, such as \"52:54:00:12:34:56\"", n.MAC))
		}
	}
	tags := map[string]bool{}
	for _, s := range m.Shares {
		if !machineName().MatchString(s.Tag) || len(s.Tag) > 31 || tags[s.Tag] {
			errs = append(errs, fmt.Errorf("shares: %q is no tag, or is there twice: use letters, digits, _ . + -, 31 at most", s.Tag))
		}
		tags[s.Tag] = true
	}
	return errors.Join(errs...)
}

func oneOf(what, value string, all []string) error {
	if slices.Contains(all, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is none of %s", what, value, strings.Join(all, ", "))
}

// In returns the machine with its files seen from the directory that they lie in.
func (m *Machine) In(dir string) *Machine {
	return m.At(func(file string) string {
		if filepath.IsAbs(file) {
			return file
		}
		return filepath.Join(dir, file)
	})
}

// At returns the machine with its files elsewhere: at says where a file or a directory is.
func (m *Machine) At(at func(file string) string) *Machine {
	own := *m
	own.Disks, own.Shares = slices.Clone(m.Disks), slices.Clone(m.Shares)
	for _, file := range own.files() {
		*file = at(*file)
	}
	return &own
}

// Files are the machine's files and directories, as it names them.
func (m *Machine) Files() []string {
	var names []string
	for _, file := range m.files() {
		names = append(names, *file)
	}
	return names
}

func (m *Machine) files() []*string {
	var files []*string
	for i := range m.Disks {
		files = append(files, &m.Disks[i].File)
	}
	for _, file := range []*string{&m.Seed, &m.Kernel, &m.Initrd} {
		if *file != "" {
			files = append(files, file)
		}
	}
	for i := range m.Shares {
		files = append(files, &m.Shares[i].Dir)
	}
	return files
}
