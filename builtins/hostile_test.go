package builtins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
)

// TestHostileFiles evaluates files that try to hang, fill the memory or
// overflow the stack. Each must end in one clean sentence, without more
// memory at a time than it may have, and without many steps.
func TestHostileFiles(t *testing.T) {
	deep := func(n int, open, middle, end string) string {
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	double := func(expr string) string {
		return "def f():\n    x = \"aaaaaaaaaaaaaaaa\"\n    t = ()\n    for i in range(60):\n        " + expr + "\n    return (x, t)\nv = f()\n"
	}
	doubleList := func(expr string) string {
		return "def f():\n    t = [0, 1]\n    for i in range(60):\n        " + expr + "\nf()\n"
	}
	const memory = "evaluation needs more than 256 MiB of memory"
	tests := []struct{ name, src, want string }{
		{"parentheses", "x = " + deep(1<<20, "(", "1", ")"), ": excessive nesting"},
		{"brackets", "x = " + deep(100_000, "[", "", "]"), "nesting"},
		{"not", "x = " + deep(300_000, "not ", "1", ""), "nesting"},
		{"minus", "x = " + deep(1<<20, "-", "1", ""), "nesting"},
		{"plus", "x = 1" + strings.Repeat("+1", 500_000), "nesting"},
		{"dots", "x = a" + strings.Repeat(".b", 500_000), "nesting"},
		{"calls", "x = len" + strings.Repeat("()", 500_000), "nesting"},
		{"indexes", "x = len" + strings.Repeat("[0]", 300_000), "nesting"},
		{"elif", "if 1:\n pass\n" + strings.Repeat("elif 1:\n pass\n", 100_000), "nesting"},
		{"else", "x = " + strings.Repeat("1 if 1 else ", 200_000) + "1", "nesting"},
		{"lambda", "x = " + strings.Repeat("lambda: ", 200_000) + "1", "nesting"},
		{"large", strings.Repeat("#", 4<<20+1), "larger than 4194304 bytes"},
		{"endless", "def f():\n    for i in range(10000000):\n        for j in range(10000000):\n            pass\nf()\n", "evaluation stopped: it took more than 20000000 steps"},
		{"repeat text", `x = "a" * 10000000000`, "the result of string * 10000000000 is too large"},
		{"repeat list", "x = [0] * 1000000000", "the result of list * 1000000000 is too large"},
		{"repeat tuple", "x = 1 << 40\ny = x * (0,)", "the result of tuple * 1099511627776 is too large"},
		{"repeat in place", "def f():\n    x = \"a\"\n    x *= 1 << 40\nf()", "is too large"},
		{"big integers", "def f():\n    x = 1 << 500\n    for i in range(60):\n        x = x * x\nf()", "the product has more than 65536 bits"},
		{"range", "x = list(range(10000000000))", "range(): 10000000000 numbers, more than 10000000"},
		{"doubling text", double("x = x + x"), memory},
		{"doubling text in place", double("x += x"), memory},
		{"doubling texts of others", double("t = [x + x]\n        x = t[0]"), memory},
		{"doubling bytes", "def f():\n    x = b\"aaaaaaaaaaaaaaaa\"\n    for i in range(60):\n        x += x\nf()\n", memory},
		{"doubling tuple", doubleList("t = tuple(t) + tuple(t)"), memory},
		{"doubling list", doubleList("t = t + t"), memory},
		{"doubling list in place", doubleList("t += t"), memory},
		{"doubling list by extend", doubleList("t.extend(list(t))"), memory},
		{"doubling list by getattr", doubleList("getattr(t, \"extend\")(list(t))"), memory},
		{"getattr of nothing", "getattr()", "getattr: got 0 arguments"},
		{"splitting", "x = (\",\" * (64 << 20)).split(\",\")", memory},
		{"elements", "x = list((\",\" * (64 << 20)).elems())", memory},
		{"pairs", "x = list(enumerate(range(10000000)))", memory},
		{"join", `x = ("a" * 1000000).join(["b"] * 1000000)`, "join(): the result is larger than"},
		{"replace", `x = ("a" * 1000000).replace("a", "b" * 1000000)`, "replace(): the result is larger than"},
		{"replace by getattr", `x = getattr("a" * 1000000, "replace")("a", "b" * 1000000)`, "replace(): the result is larger than"},
		{"format", `x = ("{0}" * 100000).format("b" * 1000000)`, "format(): it is too large"},
		{"percent", `x = ("%s" * 1000) % (("b" * 1000000,) * 1000)`, "it is too large"},
		{"laughs", double("t = [t, t]") + "str(v)", "it is too large"},
		{"kept laughs", double("t = (t, t)"), "it is too large"},
		{"json", `json.decode("[" * 1000000)`, "json.decode(): the text is nested more than 1000 deep"},
		{"deep tuple", "def f():\n    t = ()\n    for i in range(100000):\n        t = (t,)\n    return str(t)\nx = f()", "str(): it is nested more than 1000 deep"},
		{"deep kept", "def f():\n    t = ()\n    for i in range(100000):\n        t = (t,)\n    return t\nx = f()", "the value of x: it is nested more than 1000 deep"},
		{"list of itself", "x = []\nx.append(x)\nprint(x)", "deep"},
		{"null bytes", "x = \x00\x00", "B9BUILD.star:1:5: "},
		{"not text", "\xff\xfe", "B9BUILD.star:1:"},
		{"fail", "fail([\"a\" * 1000] * 1000000)", "fail(): it is too large"},
		{"mistakes", "[file(nope = i) for i in range(100000)]", "too many mistakes"},
		{"template", `template(name = "a", content = "${" * 100000)`, "99980 more mistakes"},
		{"glob", `glob(["**/**/**/**/**/**/**/**/**/**/**/a"] * 1000)`, "no file matches"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := resolveText(t, context.Background(), tt.src, time.Hour, nil)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.2000v\nwant %s", err, tt.want)
			}
			most := uint64(2048)
			if tt.want == memory && !strings.Contains(tt.name, "list") { // lists are copied more often
				most = 512 // a doubled value and all those before it are twice as large as it
			}
			if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > most {
				t.Errorf("it allocated %d MiB in all, want at most %d", allocated, most)
			}
		})
	}
}

// TestHostileCall stays for ever in one call of the interpreter, which cannot
// be stopped: evaluation gives up, by its limit and when it is cancelled.
func TestHostileCall(t *testing.T) {
	if !alone(t) {
		return
	}
	src := "def f():\n    t = ()\n    for i in range(60):\n        t = (t, t)\n    print(\"now\")\n    return {t: 1}\nf()\n"
	err := resolveText(t, context.Background(), src, 100*time.Millisecond, nil)
	if err == nil || !strings.Contains(err.Error(), "evaluation stopped: evaluation took longer than") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = resolveText(t, ctx, src, time.Hour, builtinstest.WriterFunc(cancel))
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), lang.BuildFile) {
		t.Errorf("got %v", err)
	}
}

// alone reports whether this process was made for the test. If not, it makes
// one, and waits for it: what the test cannot stop ends with that process.
func alone(t *testing.T) bool {
	t.Helper()
	const variable = "B9_TEST_ALONE"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func resolveText(t *testing.T, ctx context.Context, src string, limit time.Duration, printed io.Writer) error {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", lang.BuildFile: src})
	limits := lang.Limits{Steps: 20_000_000, Memory: 256 << 20, Time: limit}
	w, err := openTest(ctx, lang.Config{Root: root, Limits: limits, Stderr: printed})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Resolve(ctx, []string{"//:all"})
	return err
}

func TestInterruptedLoop(t *testing.T) {
	loop := "def f():\n    print(\"looping\")\n    for i in range(10000000):\n        for j in range(10000000):\n            pass\nf()\n"
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", lang.BuildFile: loop, "a/B9BUILD.star": loop, "b/B9BUILD.star": `load("//:x.star", "x")`, "x.star": loop})
	ctx, cancel := context.WithCancel(context.Background())
	var looping atomic.Int32
	all := builtinstest.WriterFunc(func() {
		if looping.Add(1) == 1 {
			cancel()
		}
	})
	w, err := openTest(ctx, lang.Config{Root: root, Limits: lang.Limits{Steps: 1 << 60, Time: time.Hour}, Stderr: all})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Resolve(ctx, []string{"//..."})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it to be context.Canceled", err)
	}
	if !strings.Contains(fmt.Sprint(err), "evaluation stopped: context canceled") {
		t.Errorf("got %v", err)
	}
}
