package hostconfig

import (
	"strconv"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// modernize converts documents of older releases of upstream Trident to the present form.
// It does not convert a key if the document has the key's successor too; the decoder
// then treats the old key as unknown.
func modernize(root *yaml.Node) {
	if indexKey(root, "image") < 0 {
		modernizeImage(lookup(root, "osImage"))
		rename(root, "osImage", "image")
	}
	rename(lookup(root, "os"), "network", "netplan")
	rename(lookup(root, "managementOs"), "network", "netplan")
	remove(lookup(root, "trident"), "selfUpgrade")
	remove(lookup(root, "trident"), "enableGrpc")
	if mode := lookup(lookup(root, "os"), "uefiFallback"); mode != nil {
		if now, old := map[string]UEFIFallback{"rollback": FallbackConservative, "rollforward": FallbackOptimistic, "none": FallbackDisabled}[mode.Value]; old {
			mode.Value = string(now)
		}
	}
	storage := lookup(root, "storage")
	for _, item := range items(lookup(storage, "filesystems")) {
		modernizeFilesystem(item)
	}
	if list := lookup(storage, "verityFilesystems"); list != nil && lookup(storage, "verity") == nil {
		rename(storage, "verityFilesystems", "verity")
		for i, item := range items(list) {
			modernizeVerity(storage, item, "verity"+strconv.Itoa(i))
		}
	}
}

// modernizeImage replaces the hash of an osImage by "ignored": it is the hash of
// other bytes than sha384 of image is.
func modernizeImage(image *yaml.Node) {
	if image == nil || image.Kind != yaml.MappingNode {
		return
	}
	for _, key := range []string{"type", "sha256", "sha384"} {
		remove(image, key)
	}
	image.Content = append(image.Content, textNode("sha384"), textNode(string(HashIgnored)))
}

// modernizeFilesystem replaces a source that is a mapping (it named the file of the
// content) by one of the present words, and removes the type of a file system from an
// image, because the image says the type.
func modernizeFilesystem(fs *yaml.Node) {
	source := lookup(fs, "source")
	if source != nil && source.Kind == yaml.MappingNode {
		word := FromImage
		if kind := lookup(source, "type"); kind != nil {
			switch kind.Value {
			case "create", string(FromNew):
				word = FromNew
			case string(FromAdopted):
				word = FromAdopted
			}
		}
		*source = *textNode(string(word))
	}
	if source == nil || form.IsNull(source) || source.Value == string(FromImage) {
		remove(fs, "type")
	}
}

// modernizeVerity splits an item of verityFilesystems, which described both a verity
// device and the file system on it, into an item of verity with the given id and one of
// filesystems. The old item had no id, and its name may be the id of another device.
func modernizeVerity(storage, item *yaml.Node, id string) {
	if lookup(item, "name") == nil || lookup(item, "id") != nil {
		return
	}
	mount := lookup(item, "mountPoint")
	for _, key := range []string{"mountPoint", "type", "fsType", "dataImage", "hashImage"} {
		remove(item, key)
	}
	item.Content = append(item.Content, textNode("id"), textNode(id))
	if mount == nil {
		return
	}
	list := lookup(storage, "filesystems")
	if list == nil {
		list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		storage.Content = append(storage.Content, textNode("filesystems"), list)
	}
	if list.Kind != yaml.SequenceNode {
		return
	}
	list.Content = append(list.Content, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		textNode("deviceId"), textNode(id), textNode("mountPoint"), mount,
	}})
}

// items returns the items of the list n; nil if n is not a list.
func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

func textNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// lookup returns the value of key in the mapping n, or nil.
func lookup(n *yaml.Node, key string) *yaml.Node {
	if i := indexKey(n, key); i >= 0 {
		return n.Content[i+1]
	}
	return nil
}

func rename(n *yaml.Node, old, now string) {
	if i := indexKey(n, old); i >= 0 && indexKey(n, now) < 0 {
		n.Content[i].Value = now
	}
}

func remove(n *yaml.Node, key string) {
	if i := indexKey(n, key); i >= 0 {
		n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
	}
}

func indexKey(n *yaml.Node, key string) int {
	if n == nil || n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return i
		}
	}
	return -1
}
