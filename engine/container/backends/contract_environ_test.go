package backends

import (
	"os"
	"strings"
	"testing"
)

// searchEverywhere prints what of the kernel's view of processes holds the text FIRST
// directly followed by LAST: environments, command lines, memory, open files, mounts,
// keys. The processes of the search itself hold the halves alone.
const searchEverywhere = `
my $text = "FIRST" . "LAST";
my @memory;
for my $p (glob("/proc/[0-9]*")) {
	for my $f (qw(environ cmdline comm auxv mountinfo maps stack)) { look("$p/$f") }
	for my $fd (glob("$p/fd/*")) { (readlink($fd) // "") =~ /\Q$text\E/ and print "$fd\n"; look($fd) if -f $fd && -s _ < 1<<20 }
	next if $p eq "/proc/$$";
	open(my $maps, "<", "$p/maps") or next;
	open(my $mem, "<:raw", "$p/mem") or next;
	for (<$maps>) {
		/^(\w+)-(\w+) r/ or next;
		sysseek($mem, hex $1, 0); sysread($mem, my $data, hex($2) - hex($1)) or next;
		index($data, $text) >= 0 and print "$p/mem $_";
	}
}
look($_) for qw(/proc/keys /proc/key-users /proc/cmdline);
sub look { my $f = shift; open(my $h, "<:raw", $f) or return; local $/; my $data = <$h> // ""; index($data, $text) >= 0 and print "$f\n" }
`

// callersVariable is a variable of this process, which starts the containers.
const callersVariable = "B9_CALLERS_TOKEN"

// callersToken is its value: halves that the search can tell apart.
func callersToken(id string) string { return "token" + id + ":end" + id }

// testCallersEnvironment: no script finds what is in the environment of b9, whatever
// it may do.
func testCallersEnvironment(t *testing.T, w *world) {
	needTool(t, "perl")
	token := os.Getenv(callersVariable)
	first, last, _ := strings.Cut(token, ":")
	text := strings.NewReplacer("FIRST", first, "LAST", ":"+last).Replace(searchEverywhere)
	for _, right := range [][]string{nil, everyRight} {
		// The script finds what was meant for it, so that the search is one.
		for own, want := range map[string]string{"": "", "OWN=" + token: "environ"} {
			r, image := w.script(t, "cat >/look <<'END'\n"+text+"\nEND\nexec perl /look")
			r.withHostTools()
			r.spec.Capabilities = right
			if own != "" {
				r.spec.Env = append(r.spec.Env, own)
			}
			got := r.output(t)
			if want == "" && got != "" || !strings.Contains(got, want) {
				t.Errorf("with %v and %q the script found %q, want %q", right, own, got, want)
			}
			checkImageClean(t, image)
		}
	}
}
