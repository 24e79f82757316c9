# SPDX-License-Identifier: MIT
# Text work in perl: hashes, arrays of arrays, regular expressions, sorting. Always the same output.
use strict;
use warnings;

my $state = 12345;
sub rnd { $state = ($state * 1103515245 + 12345) & 0x7fffffff; return ($state >> 8) % $_[0]; }

my $rounds = shift // 60000;
my @syllables = qw(ka lo mi ren tas vel un dor is eth gar po ni su);
my @words = map { join '', map { $syllables[rnd(14)] } 0 .. rnd(4) + 1 } 1 .. 3000;
my (%count, %lines_of, @text);

for my $n (1 .. $rounds) {
	my $line = join ' ', map { $words[rnd(3000)] } 0 .. rnd(18) + 2;
	$line =~ s/\b(\w)(\w*)ren\b/\u$1$2-ren/g;
	push @text, $line;
	for my $word (split / /, $line) {
		$count{$word}++;
		push @{ $lines_of{$word} }, $n if rnd(4) == 0;
	}
}
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
printf "%s %d\n", $_, $count{$_} for @top[0 .. 20];

# Every third line goes away, the others grow.
my @kept = grep { defined } map { $_ % 3 ? $text[$_] . "; " . reverse($text[$_]) : undef } 0 .. $#text;
@text = ();
my $matches = 0;
for (@kept) { $matches++ while /([aeiou])\w*?\1/g; }
my $sum = 0;
$sum = ($sum * 31 + length) & 0xffffffff for sort @kept;
my $refs = 0;
$refs += @$_ for values %lines_of;
print scalar(@kept), " lines, $matches matches, $refs references, sum $sum\n";
