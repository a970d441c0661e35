package lang

import (
	"fmt"
	"strconv"
	"time"

	"go.starlark.net/starlark"

	"b9.build/b9/engine/size"
)

// Number is the argument when it is a float or an int, else 0.
func (c *Call) Number(param string) float64 {
	f, _ := starlark.AsFloat(orZero(c.Value(param)))
	if f < 0 {
		c.Errorf("%s: %g is negative", param, f)
	}
	return f
}

func orZero(v starlark.Value) starlark.Value {
	if v == nil {
		return starlark.MakeInt(0)
	}
	return v
}

// Duration is the argument when it is a number of seconds, or a string such
// as "90s", "1h30m" or "1d", else 0.
func (c *Call) Duration(param string) time.Duration {
	switch v := c.Value(param).(type) {
	case starlark.Int:
		if n := c.Int(param); n > 0 && n < 1<<31 {
			return time.Duration(n) * time.Second
		}
		c.Errorf("%s: want a positive number of seconds, got %s", param, v)
	case starlark.String:
		d, err := size.ParseDuration(string(v))
		if err != nil {
			c.Errorf("%s: %w", param, err)
		} else if d == 0 {
			c.Errorf("%s: want a positive duration, got %q", param, string(v))
		}
		return d.Std()
	}
	return 0
}

// ParseMode reads permission bits given as three or four octal digits.
func ParseMode(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || len(s) < 3 || len(s) > 5 || n > 0o7777 {
		return 0, fmt.Errorf("%q are no permission bits: write three or four octal digits such as \"0644\"", s)
	}
	return uint32(n), nil
}
