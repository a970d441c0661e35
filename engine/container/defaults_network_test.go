package container_test

import (
	"errors"
	"testing"

	"b9.build/b9/engine/container"
)

// TestCheckNetwork refuses what is known not to be there, and asks only where it has to.
func TestCheckNetwork(t *testing.T) {
	asked := 0
	have := func() ([]string, error) {
		asked++
		return []string{"nat", "host", "none", "libvirt:lan"}, nil
	}
	unknown := func() ([]string, error) { return nil, errors.New("no answer") }
	for _, c := range []struct {
		name     string
		networks func() ([]string, error)
		want     string
	}{
		{"", have, ""},
		{"none", have, ""},
		{"libvirt:elsewhere", have, ""},
		{"anything", nil, ""},
		{"anything", unknown, ""},
	} {
		if err := (container.Defaults{Networks: c.networks}).CheckNetwork(c.name); err != nil || asked > 0 {
			t.Errorf("%q: %v, asked %d times", c.name, err, asked)
		}
	}
	d := container.Defaults{Networks: have}
	for name, want := range map[string]string{
		"lan":  "",
		"lna":  `unknown network "lna" (have nat, host, none, lan): did you mean "lan"?`,
		"away": `unknown network "away" (have nat, host, none, lan): a network of libvirt on another machine is written "libvirt:away", and is for backend libvirt-lxc`,
	} {
		got := ""
		if err := d.CheckNetwork(name); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", name, got, want)
		}
	}
}
