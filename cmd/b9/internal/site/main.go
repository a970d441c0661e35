// Command site writes b9's documentation as a static site: the documents of docs/, and a
// reference of what the program says of itself. It is run by `make docs`.
//
//	site B9 SOURCE DIR
//
// runs the program B9, reads the tree SOURCE, and writes DIR anew. Pages load nothing but
// files beside them, and nothing from the network.
//
//	parts.go      which page stands where
//	generated.go  what the program is asked for
//	markdown.go   documents as HTML, and where their links lead
//	write.go      pages, the files that they link to, and the index of the search
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: site B9 SOURCE DIR")
		os.Exit(2)
	}
	if err := site(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

// site writes the site.
func site(program, source, dir string) error {
	generated, err := reference(program)
	if err != nil {
		return err
	}
	s := &writer{source: source, dir: dir, pages: map[string]*page{}, others: map[string]bool{}, pictures: map[string]bool{}}
	if err := s.collect(generated); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return s.write()
}
