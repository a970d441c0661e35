// Package content merges documents: mappings and lists of configuration, as
// b9, as cloud-init or strictly. Below it lie the formats of the text that goes
// into images. They read and write no file and know nothing of build files or
// of the graph.
//
//	Merge, Strategies, CheckStrategy   the ways to merge yaml's documents
//
//	yaml        the tree of values with their positions; YAML, JSON and TOML, read and written
//	cloudinit   checks of cloud-config, network configuration and user-data; MIME parts; merge_how
//	erlang      Erlang terms, read, merged and printed
//	template    texts with ${name} in them
package content
