package vm

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestDomainIsValid has libvirt's schema judge machines with everything.
func TestDomainIsValid(t *testing.T) {
	for _, name := range []string{"virt-xml-validate", "xmllint"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s of the Debian packages libvirt-clients and libxml2-utils", name)
		}
	}
	all := simple()
	all.Disks = nil
	for i, name := range Controllers() {
		if name == "ide" {
			name = "sata"
		}
		format := DiskFormats()[i%len(DiskFormats())]
		all.Disks = append(all.Disks, Disk{File: fmt.Sprintf("disk %d.%s", i, format), Format: format, Controller: name, CD: HasCD(name) && i%2 == 0})
	}
	all.Seed, all.SecureBoot, all.Firmware, all.TPM = "seed.iso", true, "uefi", true
	for _, model := range NICModels() {
		all.NICs = append(all.NICs, NIC{Model: model, MAC: "52:54:00:12:34:56"}, NIC{Model: model})
	}
	all.Shares = []Share{{Tag: "a", Dir: "share-a"}, {Tag: "b", Dir: "share-b", Writable: true}}
	old := simple()
	old.Type, old.Kernel, old.Initrd, old.Cmdline = "pc", "kernel", "initrd", "root=<x> & more"
	for range 4 {
		old.Disks = append(old.Disks, Disk{File: "i.raw", Format: "raw", Controller: "ide"})
	}
	many := simple()
	for range 40 {
		many.Disks = append(many.Disks, many.Disks[0])
	}
	for name, m := range map[string]Machine{"all": all, "old": old, "many": many} {
		if err := m.Check(); err != nil {
			t.Fatal(name, err)
		}
		xml, err := m.Domain("/srv/a b")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "domain.xml")
		write(t, filepath.Dir(file), map[string][]byte{"domain.xml": []byte(xml)})
		if out, err := exec.CommandContext(t.Context(), "virt-xml-validate", file, "domain").CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s\n%s", name, err, out, xml)
		}
		if !strings.Contains(xml, m.In("/srv/a b").Disks[0].File) {
			t.Errorf("%s: no disk in %s", name, xml)
		}
	}
}

// TestDocument reads a machine back as it was written.
func TestDocument(t *testing.T) {
	m := simple()
	data, err := m.Document()
	if err != nil {
		t.Fatal(err)
	}
	m.Schema = schema
	var got Machine
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestCheck says what is wrong with machines.
func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*Machine){
		"is no name for a machine":    func(m *Machine) { m.Name = "a/b" },
		"are no whole MiB":            func(m *Machine) { m.Memory = 1<<20 + 1 },
		"cpus: 0":                     func(m *Machine) { m.CPUs = 0 },
		"is none of q35, pc":          func(m *Machine) { m.Type = "z80" },
		"is none of bios, uefi":       func(m *Machine) { m.Firmware = "coreboot" },
		"secure_boot needs":           func(m *Machine) { m.SecureBoot = true },
		"nothing to start":            func(m *Machine) { m.Disks = nil },
		"give kernel, too":            func(m *Machine) { m.Cmdline = "quiet" },
		"format of disk0.raw":         func(m *Machine) { m.Disks[0].Format = "qed" },
		"a CD can't be at virtio-blk": func(m *Machine) { m.Disks[0].CD = true },
		"has no ide":                  func(m *Machine) { m.Disks[0].Controller = "ide" },
		"is none of virtio-blk":       func(m *Machine) { m.Disks[0].Controller = "floppy" },
		"sata has room for 6 disks": func(m *Machine) {
			m.Disks = make([]Disk, 7)
			for i := range m.Disks {
				m.Disks[i] = Disk{"f", "raw", "sata", false}
			}
		},
		"model of a network card":        func(m *Machine) { m.NICs = []NIC{{Model: "ne2k"}} },
		"no address of a network card":   func(m *Machine) { m.NICs = []NIC{{Model: "virtio", MAC: "01:00:00:00:00:00"}} },
		"is no tag, or is there twice":   func(m *Machine) { m.Shares = []Share{{Tag: "a,b"}} },
		"shares: \"a\" is no tag, or is": func(m *Machine) { m.Shares = []Share{{Tag: "a"}, {Tag: "a"}} },
	} {
		m := simple()
		change(&m)
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
