// Package cloudinit knows what cloud-init reads: which keys a cloud-config and
// a network configuration may have, how user-data is put together of parts, and
// how cloud-init merges those. It follows cloud-init 22.4 (Debian 12) and
// accepts what later versions accept. It runs no cloud-init.
//
//	CheckConfig, CheckNetwork, CheckUserData   findings in a document or a text; FindingNames lists their names
//	KindOf, PartKind, HeaderTexts              what kind of user-data a text is to cloud-init
//	Part, Multipart, Gzip                      several parts as one text
//	Merge, MergeHow, ParseMergeHow             documents merged as cloud-init does it
//
// A rule says what a value must be. The tables of rules are YAML files that are
// part of the program: config.yaml with the keys of cloud-init's modules, and one
// file for each version of a network configuration.
package cloudinit
